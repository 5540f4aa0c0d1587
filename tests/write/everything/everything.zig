//! Every call of the host.
const weir = @import("weir");

comptime {
    weir.function(1024, @This());
}

var n: weir.Number = .{};
var s: weir.Field = .{};
var i: weir.Field = .{};
var b: weir.Field = .{};
var a: weir.Field = .{};
var o: weir.Field = .{};
var absent: weir.Field = .{};
var c: weir.Meter = .{};
var g: weir.Meter = .{};
var d: weir.Meter = .{};
var factor: f64 = 0;

pub fn on_start() !void {
    n = try weir.Number.bind("n");
    s = try weir.Field.bind("s");
    i = try weir.Field.bind("i");
    b = try weir.Field.bind("b");
    a = try weir.Field.bind("a");
    o = try weir.Field.bind("o");
    absent = try weir.Field.bind("absent");
    c = try weir.Meter.bind("c");
    g = try weir.Meter.bind("g");
    d = try weir.Meter.bind("d");
    factor = weir.configNumber("factor", 1);
    try weir.want(.{ .topic = true, .device = true });
}

fn is(text: []const u8, word: []const u8) bool {
    if (text.len != word.len) return false;
    for (text, word) |x, y| if (x != y) return false;
    return true;
}

fn kind(out: anytype, field: weir.Field) !void {
    try out.number(@floatFromInt(@intFromEnum(field.kind())), 0);
}

pub fn on_event(event: *const weir.Event) !weir.Verdict {
    var space: [32]u8 = undefined;
    const word = try s.text(&space);
    const device = try event.device();
    const key = weir.Key.of("k", device);
    if (is(word, "forget")) {
        try weir.state.delete(key.slice());
        return .drop;
    }
    if (is(word, "denied")) try weir.emit("elsewhere", "x");
    if (is(word, "abort")) weir.abort("as asked, ü");
    const value = n.get(event) orelse return .drop;
    var out: weir.Text(400) = .{};
    try out.put("s=");
    try out.put(word);
    try out.put(" label=");
    var label: [16]u8 = undefined;
    try out.put((try weir.configText("label", &label)) orelse "");
    try out.put(" i=");
    try out.number(@floatFromInt(try i.int()), 0);
    try out.put(" b=");
    try out.number(@floatFromInt(b.int() catch -1), 0);
    var numbers: [8]f64 = undefined;
    var sum: f64 = 0;
    const items = try a.numbers(&numbers);
    for (items) |item| {
        if (item == item) sum += item;
    }
    try out.put(" sum=");
    try out.number(sum, 2);
    try out.put(" items=");
    try out.number(@floatFromInt(items.len), 0);
    try out.put(" n*factor=");
    try out.number(value * factor, -1);
    try out.put(" o=");
    var object: [16]u8 = undefined;
    try out.put(o.text(&object) catch "-");
    try out.put(" part=");
    var part: [4]u8 = undefined;
    try out.put(weir.payload(1, &part));
    try out.put(" topic=");
    try out.put(try event.topic());
    try out.put(" now=");
    try out.number(@floatFromInt(weir.nowMs()), 0);
    try out.put(" kinds=");
    try kind(&out, s);
    try out.put(",");
    try kind(&out, a);
    try out.put(",");
    try kind(&out, absent);
    try out.put(",");
    try kind(&out, b);
    try out.put(" before=");
    var kept: [8]u8 = undefined;
    if (try weir.state.get(key.slice(), &kept)) |bytes| {
        if (bytes.len != 8) return error.WrongType;
        try out.number(@bitCast(kept), -1);
    } else {
        try out.put("none");
    }
    kept = @bitCast(@as(f64, 3.5));
    try weir.state.put(key.slice(), &kept);
    try c.add("", 1);
    try g.set("", value);
    try d.observe("", value * factor);
    weir.log(.info, "seen");
    var dice: [4]u8 = undefined;
    try weir.random(&dice);
    var topic: weir.Text(64) = .{};
    try topic.put("out/");
    try topic.put(device);
    try weir.emit(topic.slice(), out.slice());
    return .done;
}

pub fn on_interval(event: *const weir.Event) !weir.Verdict {
    var out: weir.Text(8) = .{};
    try out.number(@floatFromInt(event.kind), 0);
    try weir.emit("out/interval", out.slice());
    return .done;
}
