// Alerts when a device's `temp` rises to `high`, and again when it has fallen to `low`; keeps readings while it is high.
#include "weir.h"

WEIR_FUNCTION(512)

static int32_t temp;
static double high, low;

int32_t on_start(void) {
    temp = weir_bind_f64(WEIR_STR("temp"));
    high = weir_config_f64(WEIR_STR("high"), 80);
    low = weir_config_f64(WEIR_STR("low"), 75);
    if (low > high) {
        weir_abort(WEIR_STR("config: `low` is above `high`"));
    }
    return temp < 0 ? temp : 0;
}

static int32_t alert(const struct weir_event *event, bool is_high) {
    struct weir_text topic = WEIR_TEXT((char[128]){0});
    weir_put(&topic, WEIR_STR("alerts/"));
    weir_put(&topic, event->device, event->device_len);
    struct weir_text payload = WEIR_TEXT((char[128]){0});
    weir_put(&payload, WEIR_STR("{\"state\":\""));
    if (is_high) {
        weir_put(&payload, WEIR_STR("high"));
    } else {
        weir_put(&payload, WEIR_STR("normal"));
    }
    weir_put(&payload, WEIR_STR("\",\"temp\":"));
    weir_put_f64(&payload, event->fields[temp], -1);
    weir_put(&payload, WEIR_STR("}"));
    return weir_emit_text(&topic, &payload);
}

int32_t on_event(const struct weir_event *event) {
    if (!weir_has(event, temp)) {
        return WEIR_DROP;
    }
    if (event->device_len > 0 && event->device == NULL) {
        return WEIR_TOO_LONG;
    }
    double value = event->fields[temp];
    char space[64];
    struct weir_text key = weir_key(space, WEIR_STR("high"), event->device, event->device_len);
    bool was_high = false;
    weir_state_get(key.space, key.len, &was_high, 1);
    bool is_high = was_high ? value > low : value >= high;
    if (is_high != was_high) {
        int32_t code = weir_state_put(key.space, key.len, &is_high, 1);
        if (code == 0) {
            code = alert(event, is_high);
        }
        if (code < 0) {
            return code;
        }
    }
    return is_high ? WEIR_KEEP : WEIR_DROP;
}
