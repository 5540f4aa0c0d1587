//! Alerts when a device's `temp` rises to `high`, and again when it has fallen to `low`; keeps readings while it is high.
const weir = @import("weir");

comptime {
    weir.function(512, @This());
}

var temp: weir.Number = .{};
var high: f64 = 0;
var low: f64 = 0;

pub fn on_start() !void {
    temp = try weir.Number.bind("temp");
    high = weir.configNumber("high", 80);
    low = weir.configNumber("low", 75);
    if (low > high) weir.abort("config: `low` is above `high`");
}

pub fn on_event(event: *const weir.Event) !weir.Verdict {
    const value = temp.get(event) orelse return .drop;
    const device = try event.device();
    const key = weir.Key.of("high", device);
    var space: [1]u8 = undefined;
    const was_high = if (try weir.state.get(key.slice(), &space)) |kept| kept.len == 1 and kept[0] == 1 else false;
    const is_high = if (was_high) value > low else value >= high;
    if (is_high != was_high) {
        try weir.state.put(key.slice(), &.{@intFromBool(is_high)});
        try alert(device, is_high, value);
    }
    return if (is_high) .keep else .drop;
}

fn alert(device: []const u8, is_high: bool, value: f64) !void {
    var topic: weir.Text(160) = .{};
    try topic.put("alerts/");
    try topic.put(device);
    var text: weir.Text(96) = .{};
    try text.put("{\"state\":\"");
    try text.put(if (is_high) "high" else "normal");
    try text.put("\",\"temp\":");
    try text.number(value, -1);
    try text.put("}");
    try weir.emit(topic.slice(), text.slice());
}
