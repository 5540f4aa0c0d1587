// Alerts when a device's `temp` rises to `high`, and again when it has fallen to `low`; keeps readings while it is high.
import { DROP, Event, KEEP, TOO_LONG, Text, abort_with, bind_number, config_number, emit, state_get_u8, state_put_u8 } from "weir";
export { weir_abi, weir_buf } from "weir";

const KEY: usize = memory.data(96, 8);
const TOPIC: usize = memory.data(176, 8);
const TEXT: usize = memory.data(112, 8);

let temp: i32 = 0;
let high: f64 = 0;
let low: f64 = 0;

export function on_start(): i32 {
  temp = bind_number("temp");
  high = config_number("high", 80);
  low = config_number("low", 75);
  if (low > high) abort_with("config: `low` is above `high`");
  return temp < 0 ? temp : 0;
}

export function on_event(event: Event): i32 {
  if (!event.has(temp)) return DROP;
  if (event.device_len > 0 && event.device == 0) return TOO_LONG;
  const value = event.number(temp);
  const key = Text.in(KEY, 96).put_key("high", event.device, event.device_len);
  const was_high = state_get_u8(key, 0) == 1;
  const is_high = was_high ? value > low : value >= high;
  if (is_high != was_high) {
    let code = state_put_u8(key, is_high ? 1 : 0);
    if (code == 0) code = alert(event, is_high, value);
    if (code < 0) return code;
  }
  return is_high ? KEEP : DROP;
}

function alert(event: Event, is_high: bool, value: f64): i32 {
  const topic = Text.in(TOPIC, 176).put("alerts/").put_bytes(event.device, event.device_len);
  const text = Text.in(TEXT, 112).put('{"state":"').put(is_high ? "high" : "normal").put('","temp":').put_number(value, -1).put("}");
  return emit(topic, text);
}
