// weir.ts: functions for a weir gateway in AssemblyScript. ABI version 1; functions/abi/README.md is the specification, this its declaration.
//
// - A function re-exports `weir_abi` and `weir_buf`, and exports `on_start` (optional), `on_event` and `on_interval` as its triggers need:
//   `export { weir_abi, weir_buf } from "weir"`. Handlers return a verdict, or a code below zero: a dead letter.
// - Nothing here allocates: texts are built in `Text`, in memory that is laid out at compile time. What allocates (string
//   concatenation, arrays) works, within the memory's one page of 64 KiB, and is forgotten after the invocation.
// - Every invocation starts from the memory that on_start left: a variable that a handler sets is forgotten.
//
// `weir build` compiles NAME.ts with: asc NAME.ts --lib . -Osize --runtime stub --noAssert --initialMemory 1 --maximumMemory 1 --debug
// --use abort=~lib/weir/on_abort (--debug keeps the names of functions, which reports of traps show).

// @ts-ignore: decorator
@external("weir1", "bind_f64") declare function host_bind_f64(path: usize, len: i32): i32;
// @ts-ignore: decorator
@external("weir1", "bind") declare function host_bind(path: usize, len: i32): i32;
// @ts-ignore: decorator
@external("weir1", "want") declare function host_want(bits: i32): i32;
// @ts-ignore: decorator
@external("weir1", "meter") declare function host_meter(name: usize, len: i32): i32;
// @ts-ignore: decorator
@external("weir1", "field_kind") declare function host_field_kind(id: i32): i32;
// @ts-ignore: decorator
@external("weir1", "field_i64") declare function host_field_i64(id: i32, out: usize): i32;
// @ts-ignore: decorator
@external("weir1", "field_str") declare function host_field_str(id: i32, dst: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("weir1", "field_f64s") declare function host_field_f64s(id: i32, dst: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("weir1", "payload") declare function host_payload(offset: i32, dst: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("weir1", "emit") declare function host_emit(topic: usize, topic_len: i32, payload: usize, len: i32): i32;
// @ts-ignore: decorator
@external("weir1", "meter_add") declare function host_meter_add(id: i32, key: usize, len: i32, value: f64): i32;
// @ts-ignore: decorator
@external("weir1", "meter_set") declare function host_meter_set(id: i32, key: usize, len: i32, value: f64): i32;
// @ts-ignore: decorator
@external("weir1", "meter_observe") declare function host_meter_observe(id: i32, key: usize, len: i32, value: f64): i32;
// @ts-ignore: decorator
@external("weir1", "state_get") declare function host_state_get(key: usize, len: i32, dst: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("weir1", "state_put") declare function host_state_put(key: usize, len: i32, value: usize, value_len: i32): i32;
// @ts-ignore: decorator
@external("weir1", "state_delete") declare function host_state_delete(key: usize, len: i32): i32;
// @ts-ignore: decorator
@external("weir1", "log") declare function host_log(level: i32, text: usize, len: i32): void;
// @ts-ignore: decorator
@external("weir1", "config_get") declare function host_config_get(key: usize, len: i32, dst: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("weir1", "config_f64") declare function host_config_f64(key: usize, len: i32, otherwise: f64): f64;
// @ts-ignore: decorator
@external("weir1", "format_f64") declare function host_format_f64(value: f64, decimals: i32, dst: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("weir1", "now_ms") declare function host_now_ms(): i64;
// @ts-ignore: decorator
@external("weir1", "random") declare function host_random(dst: usize, len: i32): i32;
// @ts-ignore: decorator
@external("weir1", "abort") declare function host_abort(text: usize, len: i32): void;

/** What a handler returns. Below zero: an error. */
export const DROP: i32 = 0;
export const KEEP: i32 = 1;
export const DONE: i32 = 2;

/** What host calls answer below zero; TOO_LONG is this file's own. */
export const ABSENT: i32 = -1;
export const INVALID: i32 = -2;
export const WRONG_TYPE: i32 = -3;
export const QUOTA: i32 = -4;
export const DENIED: i32 = -5;
export const TOO_LONG: i32 = -6;

const BUFFER_BYTES: i32 = 1024;
const BUFFER: usize = memory.data(1024, 8);
/** Where names are put for a call of the host: paths, keys of settings, texts of the log. */
const NAME_BYTES: i32 = 256;
const NAME: usize = memory.data(256, 8);
const SCRATCH: usize = memory.data(8, 8);
const EMPTY: usize = memory.data(8, 8);

export function weir_abi(): i32 { return 1; }
export function weir_buf(): i64 { return (<i64>BUFFER << 32) | <i64>BUFFER_BYTES; }

/** Puts `text` as UTF-8 at `at`, as far as `cap` goes; its length there, or TOO_LONG. Allocates nothing. */
function put_utf8(text: string, at: usize, cap: i32): i32 {
  let len: i32 = 0;
  for (let i = 0, n = text.length; i < n; i++) {
    let c: u32 = text.charCodeAt(i);
    if ((c & 0xfc00) == 0xd800 && i + 1 < n) c = 0x10000 + ((c & 0x3ff) << 10) + (text.charCodeAt(++i) & 0x3ff);
    const size: i32 = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    if (len + size > cap) return TOO_LONG;
    if (size == 1) {
      store<u8>(at + len, c);
    } else {
      for (let k = size - 1; k > 0; k--) {
        store<u8>(at + len + k, 0x80 | (c & 0x3f));
        c >>= 6;
      }
      store<u8>(at + len, (size == 2 ? 0xc0 : size == 3 ? 0xe0 : 0xf0) | c);
    }
    len += size;
  }
  return len;
}

/** The name in its place for a call; a name that is too long for any ends the invocation. */
function name(text: string): i32 {
  const len = put_utf8(text, NAME, NAME_BYTES);
  return len < 0 ? abort_with("a name has more than 256 bytes") : len;
}

/** Ends the invocation; the text stands in the dead letter, or in the reason why the function was not loaded. */
export function abort_with(text: string): i32 {
  const len = put_utf8(text, NAME, NAME_BYTES);
  host_abort(NAME, len < 0 ? 0 : len);
  return unreachable();
}

/** What AssemblyScript calls where a program breaks: the place stands in the dead letter. */
export function on_abort(message: string | null, file: string | null, line: u32, column: u32): void {
  abort_with(message ? message : "aborted");
}

/** An event: a message, or an interval (which has no topic, payload, device or fields). Lies in the host's buffer: a pointer. */
@unmanaged
export class Event {
  version: u16;
  length: u16;
  /** 1 retained, 2 chained, 4 time from the payload, 8 payload too long for the buffer, 16 replayed */
  flags: u32;
  time_ms: i64;
  sequence: u64;
  /** 0: not wanted, or it does not fit the buffer; its length is true all the same */
  topic: usize;
  topic_len: i32;
  payload: usize;
  payload_len: i32;
  device: usize;
  device_len: i32;
  /** 1 message, 2 interval */
  kind: u16;
  qos: u8;
  /** 0 unset, 1 restored, 2 synced */
  time_quality: u8;
  fields: usize;
  present: u64;

  /** Whether the number that `bind_number` called `id` is there. */
  @inline has(id: i32): bool { return <bool>((this.present >> id) & 1); }
  @inline number(id: i32): f64 { return load<f64>(this.fields + (<usize>id << 3)); }
}

// In on_start only. The same path gives the same id.

/** The id of a number that stands beside every event, at most 64. */
export function bind_number(path: string): i32 { return host_bind_f64(NAME, name(path)); }
/** The id of any other field. */
export function bind_field(path: string): i32 { return host_bind(NAME, name(path)); }
/** What is copied beside the header: 1 payload + 2 topic + 4 device; topic and device without a call. */
export function want(bits: i32): i32 { return host_want(bits); }
/** The id of a meter of the manifest. */
export function meter(text: string): i32 { return host_meter(NAME, name(text)); }

/** 0 absent 1 null 2 bool 3 int 4 float 5 string 6 array 7 object */
export function field_kind(id: i32): i32 { return host_field_kind(id); }
/** A whole number, or 1 and 0 for true and false; `otherwise` if it is none. */
export function field_int(id: i32, otherwise: i64): i64 { return host_field_i64(id, SCRATCH) < 0 ? otherwise : load<i64>(SCRATCH); }
/** The items of an array at `at`, NaN for one that is no number: how many it has, at most `cap` are written. */
export function field_numbers(id: i32, at: usize, cap: i32): i32 { return host_field_f64s(id, at, cap); }

/** Durable state of one byte or one number, committed with the message. */
export function state_get_u8(key: Text, otherwise: u8): u8 {
  return host_state_get(key.at, key.len, SCRATCH, 8) == 1 ? load<u8>(SCRATCH) : otherwise;
}
export function state_put_u8(key: Text, value: u8): i32 {
  store<u8>(SCRATCH, value);
  return host_state_put(key.at, key.len, SCRATCH, 1);
}
export function state_get_f64(key: Text, otherwise: f64): f64 {
  return host_state_get(key.at, key.len, SCRATCH, 8) == 8 ? load<f64>(SCRATCH) : otherwise;
}
export function state_put_f64(key: Text, value: f64): i32 {
  store<f64>(SCRATCH, value);
  return host_state_put(key.at, key.len, SCRATCH, 8);
}
/** Any bytes: their true length, of which at most `cap` are written; or ABSENT. */
export function state_get(key: Text, at: usize, cap: i32): i32 { return host_state_get(key.at, key.len, at, cap); }
export function state_put(key: Text, at: usize, len: i32): i32 { return host_state_put(key.at, key.len, at, len); }
export function state_delete(key: Text): i32 { return host_state_delete(key.at, key.len); }

// Effects: they take place together when the handler returns 0 or more, and not at all otherwise.

export function emit(topic: Text, payload: Text): i32 {
  if (topic.cut || payload.cut) return TOO_LONG;
  return host_emit(topic.at, topic.len, payload.at, payload.len);
}
/** A value for a meter, under the device (interval: the empty key). */
export function meter_add(id: i32, value: f64): i32 { return host_meter_add(id, EMPTY, 0, value); }
export function meter_set(id: i32, value: f64): i32 { return host_meter_set(id, EMPTY, 0, value); }
export function meter_observe(id: i32, value: f64): i32 { return host_meter_observe(id, EMPTY, 0, value); }
/** 1 error 2 warn 3 info 4 debug */
export function log(level: i32, text: string): void { host_log(level, NAME, name(text)); }

/** A setting as a number. Text that is no number refuses the load, and the message names the key. */
export function config_number(key: string, otherwise: f64): f64 { return host_config_f64(NAME, name(key), otherwise); }
/** A setting as text, put behind `text`; false: there is none. */
export function config_text(key: string, text: Text): bool {
  const len = host_config_get(NAME, name(key), text.at + text.len, text.cap - text.len);
  if (len < 0) return false;
  text.grow(len);
  return true;
}
/** The time of processing, ms since 1970; the same throughout an invocation. */
export function now_ms(): i64 { return host_now_ms(); }
/** At most 256 random bytes; the same when the invocation is run again. */
export function random(at: usize, len: i32): i32 { return host_random(at, len); }

/** Texts and numbers put one behind another: `Text.in(memory.data(64), 64)`, at the beginning of a handler. Behind the first bytes
 *  of its space it keeps its own three numbers. */
@unmanaged
export class Text {
  len: i32;
  cap: i32;
  cut: bool;

  /** A text of at most `bytes - 16` bytes in `bytes` of memory. */
  static in(space: usize, bytes: i32): Text {
    const text = changetype<Text>(space);
    text.len = 0;
    text.cap = bytes - 16;
    text.cut = false;
    return text;
  }

  @inline get at(): usize { return changetype<usize>(this) + 16; }

  put(text: string): Text {
    const len = put_utf8(text, this.at + this.len, this.cap - this.len);
    return this.grow(len < 0 ? this.cap + 1 : len);
  }

  put_bytes(from: usize, len: i32): Text {
    if (len <= this.cap - this.len) memory.copy(this.at + this.len, from, len);
    return this.grow(len);
  }

  /** A number as JSON: with 0..9 decimals, or (-1) as short as reads back the same. */
  put_number(value: f64, decimals: i32): Text {
    const len = host_format_f64(value, decimals, this.at + this.len, this.cap - this.len);
    return this.grow(len < 0 ? this.cap + 1 : len);
  }

  /** A field's unescaped text, or the raw bytes of an array or object. */
  put_field(id: i32): i32 {
    const len = host_field_str(id, this.at + this.len, this.cap - this.len);
    if (len > 0) this.grow(len);
    return len;
  }

  /** The payload from `offset`. */
  put_payload(offset: i32): Text {
    return this.grow(host_payload(offset, this.at + this.len, this.cap - this.len));
  }

  /** A state key NAME:KEY; of one that is longer than 64 bytes NAME~ and the 64-bit FNV-1a hash of KEY, as the Rust SDK does. */
  put_key(name: string, key: usize, len: i32): Text {
    this.put(name);
    if (this.len + 1 + len <= 64) return this.put(":").put_bytes(key, len);
    let hash: u64 = 0xcbf29ce484222325;
    for (let i = 0; i < len; i++) hash = (hash ^ load<u8>(key + i)) * 0x100000001b3;
    this.put("~");
    store<u64>(SCRATCH, bswap<u64>(hash));
    return this.put_bytes(SCRATCH, 8);
  }

  /** Takes `len` more bytes in, which lie there already; more than there is room for makes it `cut`. */
  grow(len: i32): Text {
    if (len > this.cap - this.len) this.cut = true;
    else this.len += len;
    return this;
  }
}
