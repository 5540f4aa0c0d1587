//! weir.zig: functions for a weir gateway in Zig. ABI version 1; functions/abi/README.md is the specification, this its declaration.
//!
//! - No allocator, no standard library at run time. A function is `comptime { weir.function(512, handlers) }`, with `handlers`
//!   a struct of `on_start` (optional), `on_event` and `on_interval`, as far as its triggers need them.
//! - Every invocation starts from the memory that on_start left: a variable that a handler sets is forgotten.
//! - A handler that returns an error makes the message a dead letter with the code that stands beside it in `code`.
//!
//! `weir build` compiles NAME.zig with this file as the module `weir`, with a stack of 2 KiB and, by LLD, pages of one byte.

/// What a handler decides.
pub const Verdict = enum(i32) { drop = 0, keep = 1, done = 2 };

/// What the host refuses; the code that a handler returns for it.
pub const Error = error{ Absent, Invalid, WrongType, Quota, Denied, TooLong };

fn code(err: Error) i32 {
    return switch (err) {
        error.Absent => -1, // no such thing, or a list is full
        error.Invalid => -2, // the argument makes no sense
        error.WrongType => -3,
        error.Quota => -4, // a limit of the manifest is reached
        error.Denied => -5, // the manifest does not allow it, or not in this phase
        error.TooLong => -6, // it does not fit the space that the caller gave; this file's own
    };
}

fn check(answer: i32) Error!u32 {
    return switch (answer) {
        -1 => error.Absent,
        -2 => error.Invalid,
        -3 => error.WrongType,
        -4 => error.Quota,
        -5 => error.Denied,
        else => if (answer < 0) error.Invalid else @intCast(answer),
    };
}

/// An event: a message, or an interval (which has no topic, payload, device or fields).
pub const Event = extern struct {
    version: u16,
    length: u16,
    flags: u32, // 1 retained, 2 chained, 4 time from the payload, 8 payload too long for the buffer, 16 replayed
    time_ms: i64,
    sequence: u64,
    topic_ptr: ?[*]const u8, // null: not wanted, or it does not fit the buffer; its length is true all the same
    topic_len: u32,
    payload_ptr: ?[*]const u8,
    payload_len: u32,
    device_ptr: ?[*]const u8,
    device_len: u32,
    kind: u16, // 1 message, 2 interval
    qos: u8,
    time_quality: u8, // 0 unset, 1 restored, 2 synced
    fields: [*]const f64,
    present: u64,

    pub fn topic(event: *const Event) Error![]const u8 {
        return slice(event.topic_ptr, event.topic_len);
    }

    pub fn device(event: *const Event) Error![]const u8 {
        return slice(event.device_ptr, event.device_len);
    }

    /// Only if `want` asked for it.
    pub fn payload(event: *const Event) Error![]const u8 {
        return slice(event.payload_ptr, event.payload_len);
    }

    fn slice(pointer: ?[*]const u8, len: u32) Error![]const u8 {
        if (pointer) |bytes| return bytes[0..len];
        return if (len == 0) "" else error.TooLong;
    }
};

comptime {
    if (@sizeOf(Event) != 64 or @offsetOf(Event, "present") != 56) @compileError("compile for wasm32");
}

/// Every function states this once: the buffer of `bytes` (at least 256) into which the host writes an event (header, fields, topic,
/// device, payload), and its handlers. For use at comptime.
pub fn function(comptime bytes: u32, comptime handlers: type) void {
    if (bytes < 256) @compileError("the event buffer has at least 256 bytes");
    const exports = struct {
        var buffer: [bytes]u8 align(8) = @splat(0);

        fn abi() callconv(.c) i32 {
            return 1;
        }
        fn buf() callconv(.c) i64 {
            return @bitCast(@as(u64, @intFromPtr(&buffer)) << 32 | bytes);
        }
        fn start() callconv(.c) i32 {
            handlers.on_start() catch |err| return code(err);
            return 0;
        }
        fn event(it: *const Event) callconv(.c) i32 {
            const verdict: Verdict = handlers.on_event(it) catch |err| return code(err);
            return @intFromEnum(verdict);
        }
        fn interval(it: *const Event) callconv(.c) i32 {
            const verdict: Verdict = handlers.on_interval(it) catch |err| return code(err);
            return @intFromEnum(verdict);
        }
    };
    @export(&exports.abi, .{ .name = "weir_abi" });
    @export(&exports.buf, .{ .name = "weir_buf" });
    if (@hasDecl(handlers, "on_start")) @export(&exports.start, .{ .name = "on_start" });
    if (@hasDecl(handlers, "on_event")) @export(&exports.event, .{ .name = "on_event" });
    if (@hasDecl(handlers, "on_interval")) @export(&exports.interval, .{ .name = "on_interval" });
}

const host = struct {
    extern "weir1" fn bind_f64(path: [*]const u8, len: u32) i32;
    extern "weir1" fn bind(path: [*]const u8, len: u32) i32;
    extern "weir1" fn want(bits: i32) i32;
    extern "weir1" fn meter(name: [*]const u8, len: u32) i32;
    extern "weir1" fn field_kind(id: i32) i32;
    extern "weir1" fn field_i64(id: i32, out: *i64) i32;
    extern "weir1" fn field_str(id: i32, dst: [*]u8, cap: u32) i32;
    extern "weir1" fn field_f64s(id: i32, dst: [*]f64, cap: u32) i32;
    extern "weir1" fn payload(offset: u32, dst: [*]u8, cap: u32) i32;
    extern "weir1" fn emit(topic: [*]const u8, topic_len: u32, payload: [*]const u8, len: u32) i32;
    extern "weir1" fn meter_add(id: i32, key: [*]const u8, len: u32, value: f64) i32;
    extern "weir1" fn meter_set(id: i32, key: [*]const u8, len: u32, value: f64) i32;
    extern "weir1" fn meter_observe(id: i32, key: [*]const u8, len: u32, value: f64) i32;
    extern "weir1" fn state_get(key: [*]const u8, len: u32, dst: [*]u8, cap: u32) i32;
    extern "weir1" fn state_put(key: [*]const u8, len: u32, value: [*]const u8, value_len: u32) i32;
    extern "weir1" fn state_delete(key: [*]const u8, len: u32) i32;
    extern "weir1" fn log(level: i32, text: [*]const u8, len: u32) void;
    extern "weir1" fn config_get(key: [*]const u8, len: u32, dst: [*]u8, cap: u32) i32;
    extern "weir1" fn config_f64(key: [*]const u8, len: u32, otherwise: f64) f64;
    extern "weir1" fn format_f64(value: f64, decimals: i32, dst: [*]u8, cap: u32) i32;
    extern "weir1" fn now_ms() i64;
    extern "weir1" fn random(dst: [*]u8, len: u32) i32;
    extern "weir1" fn abort(text: [*]const u8, len: u32) noreturn;
};

/// What is copied beside the header; topic and device without a call. In on_start only, as all of the next four.
pub fn want(what: struct { payload: bool = false, topic: bool = false, device: bool = false }) Error!void {
    const bits = @as(i32, @intFromBool(what.payload)) | @as(i32, @intFromBool(what.topic)) << 1 | @as(i32, @intFromBool(what.device)) << 2;
    _ = try check(host.want(bits));
}

/// A number that stands beside every event.
pub const Number = struct {
    id: u6 = 0,

    pub fn bind(path: []const u8) Error!Number {
        return .{ .id = @intCast(try check(host.bind_f64(path.ptr, path.len))) };
    }

    pub fn get(number: Number, event: *const Event) ?f64 {
        return if (event.present >> number.id & 1 != 0) event.fields[number.id] else null;
    }
};

/// Any other field: the host is asked for it.
pub const Field = struct {
    id: i32 = 0,

    pub fn bind(path: []const u8) Error!Field {
        return .{ .id = @intCast(try check(host.bind(path.ptr, path.len))) };
    }

    pub const Kind = enum(i32) { absent, null, bool, int, float, string, array, object };

    pub fn kind(field: Field) Kind {
        return @enumFromInt(host.field_kind(field.id));
    }

    /// A whole number, or 1 and 0 for true and false.
    pub fn int(field: Field) Error!i64 {
        var value: i64 = 0;
        _ = try check(host.field_i64(field.id, &value));
        return value;
    }

    /// Unescaped text, or the raw bytes of an array or object.
    pub fn text(field: Field, space: []u8) Error![]u8 {
        return fitting(try check(host.field_str(field.id, space.ptr, space.len)), space);
    }

    /// The items of an array, NaN for one that is no number.
    pub fn numbers(field: Field, space: []f64) Error![]f64 {
        const len = try check(host.field_f64s(field.id, space.ptr, space.len));
        return if (len <= space.len) space[0..len] else error.TooLong;
    }
};

fn fitting(len: u32, space: []u8) Error![]u8 {
    return if (len <= space.len) space[0..len] else error.TooLong;
}

/// A meter of the manifest. An empty key is the device (interval: the empty key).
pub const Meter = struct {
    id: i32 = 0,

    pub fn bind(name: []const u8) Error!Meter {
        return .{ .id = @intCast(try check(host.meter(name.ptr, name.len))) };
    }
    pub fn add(meter: Meter, key: []const u8, value: f64) Error!void {
        _ = try check(host.meter_add(meter.id, key.ptr, key.len, value));
    }
    pub fn set(meter: Meter, key: []const u8, value: f64) Error!void {
        _ = try check(host.meter_set(meter.id, key.ptr, key.len, value));
    }
    pub fn observe(meter: Meter, key: []const u8, value: f64) Error!void {
        _ = try check(host.meter_observe(meter.id, key.ptr, key.len, value));
    }
};

/// Copies the payload from `offset`.
pub fn payload(offset: u32, space: []u8) []u8 {
    const len = host.payload(offset, space.ptr, space.len);
    return space[0..@intCast(@max(len, 0))];
}

/// Effects take place together when the handler returns a verdict, and not at all otherwise.
pub fn emit(topic: []const u8, bytes: []const u8) Error!void {
    _ = try check(host.emit(topic.ptr, topic.len, bytes.ptr, bytes.len));
}

pub const Level = enum(i32) { err = 1, warn, info, debug };

pub fn log(level: Level, text: []const u8) void {
    host.log(@intFromEnum(level), text.ptr, text.len);
}

/// Durable state, committed with the message. Keys have at most 64 bytes (`Key` makes them), values at most 4 KiB.
pub const state = struct {
    pub fn get(key: []const u8, space: []u8) Error!?[]u8 {
        const len = host.state_get(key.ptr, key.len, space.ptr, space.len);
        return if (len == -1) null else try fitting(try check(len), space);
    }
    pub fn put(key: []const u8, value: []const u8) Error!void {
        _ = try check(host.state_put(key.ptr, key.len, value.ptr, value.len));
    }
    pub fn delete(key: []const u8) Error!void {
        _ = check(host.state_delete(key.ptr, key.len)) catch |err| if (err != error.Absent) return err;
    }
};

/// A state key NAME:KEY; of one that is longer than 64 bytes NAME~ and the 64-bit FNV-1a hash of KEY, as the Rust SDK does.
pub const Key = struct {
    space: [64]u8 = undefined,
    len: usize = 0,

    pub fn of(name: []const u8, key: []const u8) Key {
        var made: Key = .{};
        made.put(name);
        if (name.len + 1 + key.len <= 64) {
            made.put(":");
            made.put(key);
            return made;
        }
        var hash: u64 = 0xcbf29ce484222325;
        for (key) |byte| hash = (hash ^ byte) *% 0x100000001b3;
        made.put("~");
        for (0..8) |at| made.put(&.{@truncate(hash >> @intCast(56 - 8 * at))});
        return made;
    }

    fn put(key: *Key, bytes: []const u8) void {
        @memcpy(key.space[key.len..][0..bytes.len], bytes);
        key.len += bytes.len;
    }

    pub fn slice(key: *const Key) []const u8 {
        return key.space[0..key.len];
    }
};

/// A setting as a number. Text that is no number refuses the load, and the message names the key.
pub fn configNumber(key: []const u8, otherwise: f64) f64 {
    return host.config_f64(key.ptr, key.len, otherwise);
}

/// A setting as text; null: there is none.
pub fn configText(key: []const u8, space: []u8) Error!?[]u8 {
    const len = host.config_get(key.ptr, key.len, space.ptr, space.len);
    return if (len == -1) null else try fitting(try check(len), space);
}

/// The time of processing, ms since 1970; the same throughout an invocation.
pub fn nowMs() i64 {
    return host.now_ms();
}

/// At most 256 random bytes; the same when the invocation is run again.
pub fn random(space: []u8) Error!void {
    _ = try check(host.random(space.ptr, space.len));
}

/// Ends the invocation; the text stands in the dead letter, or in the reason why the function was not loaded.
pub fn abort(text: []const u8) noreturn {
    host.abort(text.ptr, text.len);
}

/// Texts and numbers put one behind another.
pub fn Text(comptime cap: usize) type {
    return struct {
        space: [cap]u8 = undefined,
        len: usize = 0,

        pub fn put(text: *@This(), bytes: []const u8) Error!void {
            if (cap - text.len < bytes.len) return error.TooLong;
            @memcpy(text.space[text.len..][0..bytes.len], bytes);
            text.len += bytes.len;
        }

        /// A number as JSON: with 0..9 decimals, or (-1) as short as reads back the same.
        pub fn number(text: *@This(), value: f64, decimals: i32) Error!void {
            var digits: [32]u8 = undefined;
            try text.put(digits[0..try check(host.format_f64(value, decimals, &digits, digits.len))]);
        }

        pub fn slice(text: *const @This()) []const u8 {
            return text.space[0..text.len];
        }
    };
}
