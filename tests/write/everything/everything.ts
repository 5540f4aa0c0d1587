// Every call of the host.
import {
  DONE, DROP, Event, Text, abort_with, bind_field, bind_number, config_number, config_text, emit, field_int, field_kind, field_numbers, log, meter,
  meter_add, meter_observe, meter_set, now_ms, random, state_delete, state_get, state_get_f64, state_put, state_put_f64, want,
} from "weir";
export { weir_abi, weir_buf } from "weir";

const WORD: usize = memory.data(48, 8);
const KEY: usize = memory.data(96, 8);
const OUT: usize = memory.data(416, 8);
const TOPIC: usize = memory.data(80, 8);
const NUMBERS: usize = memory.data(64, 8);
const DICE: usize = memory.data(8, 8);

let n: i32 = 0, s: i32 = 0, i: i32 = 0, b: i32 = 0, a: i32 = 0, o: i32 = 0, absent: i32 = 0, c: i32 = 0, g: i32 = 0, d: i32 = 0;
let factor: f64 = 0;

export function on_start(): i32 {
  n = bind_number("n");
  s = bind_field("s");
  i = bind_field("i");
  b = bind_field("b");
  a = bind_field("a");
  o = bind_field("o");
  absent = bind_field("absent");
  c = meter("c");
  g = meter("g");
  d = meter("d");
  factor = config_number("factor", 1);
  return want(2 + 4);
}

function is(text: Text, word: string): bool {
  if (text.len != word.length) return false;
  for (let at = 0; at < text.len; at++) if (<i32>load<u8>(text.at + at) != word.charCodeAt(at)) return false;
  return true;
}

export function on_event(event: Event): i32 {
  const word = Text.in(WORD, 48);
  word.put_field(s);
  const key = Text.in(KEY, 96).put_key("k", event.device, event.device_len);
  const out = Text.in(OUT, 416);
  if (is(word, "forget")) {
    state_delete(key);
    return DROP;
  }
  if (is(word, "denied")) return emit(Text.in(TOPIC, 80).put("elsewhere"), out.put("x"));
  if (is(word, "abort")) abort_with("as asked, ü");
  const value = event.number(n);
  out.put("s=").put_bytes(word.at, word.len).put(" label=");
  config_text("label", out);
  out.put(" i=").put_number(<f64>field_int(i, -1), 0).put(" b=").put_number(<f64>field_int(b, -1), 0);
  const items = field_numbers(a, NUMBERS, 8);
  let sum: f64 = 0;
  for (let at = 0; at < items; at++) {
    const item = load<f64>(NUMBERS + (<usize>at << 3));
    if (item == item) sum += item;
  }
  out.put(" sum=").put_number(sum, 2).put(" items=").put_number(<f64>items, 0).put(" n*factor=").put_number(value * factor, -1).put(" o=");
  if (out.put_field(o) < 0) out.put("-");
  const rest = Text.in(TOPIC, 20).put_payload(1);
  out.put(" part=").put_bytes(rest.at, rest.len).put(" topic=").put_bytes(event.topic, event.topic_len);
  out.put(" now=").put_number(<f64>now_ms(), 0).put(" kinds=").put_number(<f64>field_kind(s), 0).put(",").put_number(<f64>field_kind(a), 0);
  out.put(",").put_number(<f64>field_kind(absent), 0).put(",").put_number(<f64>field_kind(b), 0).put(" before=");
  const before = state_get_f64(key, -1);
  if (state_get(key, DICE, 8) == 8 && before == 3.5) out.put_number(before, -1);
  else out.put("none");
  store<f64>(DICE, 1);
  state_put(key, DICE, 8);
  state_put_f64(key, 3.5);
  meter_add(c, 1);
  meter_set(g, value);
  meter_observe(d, value * factor);
  log(3, "seen");
  if (random(DICE, 4) != 0) return -16;
  const code = emit(Text.in(TOPIC, 80).put("out/").put_bytes(event.device, event.device_len), out);
  return code < 0 ? code : DONE;
}

export function on_interval(event: Event): i32 {
  const code = emit(Text.in(TOPIC, 80).put("out/interval"), Text.in(OUT, 32).put_number(<f64>event.kind, 0));
  return code < 0 ? code : DONE;
}
