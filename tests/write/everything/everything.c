// Every call of the host.
#include "weir.h"

WEIR_FUNCTION(1024)

static int32_t n, s, i, b, a, o, absent, c, g, d;
static double factor;

int32_t on_start(void) {
    n = weir_bind_f64(WEIR_STR("n"));
    s = weir_bind(WEIR_STR("s"));
    i = weir_bind(WEIR_STR("i"));
    b = weir_bind(WEIR_STR("b"));
    a = weir_bind(WEIR_STR("a"));
    o = weir_bind(WEIR_STR("o"));
    absent = weir_bind(WEIR_STR("absent"));
    c = weir_meter(WEIR_STR("c"));
    g = weir_meter(WEIR_STR("g"));
    d = weir_meter(WEIR_STR("d"));
    factor = weir_config_f64(WEIR_STR("factor"), 1);
    return weir_want(WEIR_WANT_TOPIC | WEIR_WANT_DEVICE);
}

static bool is(const char *text, int32_t len, const char *word, uint32_t word_len) {
    if (len != (int32_t)word_len) {
        return false;
    }
    for (uint32_t at = 0; at < word_len; at++) {
        if (text[at] != word[at]) {
            return false;
        }
    }
    return true;
}

int32_t on_event(const struct weir_event *event) {
    char word[32];
    int32_t len = weir_field_str(s, word, sizeof word);
    char key_space[64];
    struct weir_text key = weir_key(key_space, WEIR_STR("k"), event->device, event->device_len);
    if (is(word, len, WEIR_STR("forget"))) {
        weir_state_delete(key.space, key.len);
        return WEIR_DROP;
    }
    if (is(word, len, WEIR_STR("denied"))) {
        return weir_emit(WEIR_STR("elsewhere"), WEIR_STR("x"));
    }
    if (is(word, len, WEIR_STR("abort"))) {
        weir_abort(WEIR_STR("as asked, ü"));
    }
    struct weir_text out = WEIR_TEXT((char[400]){0});
    weir_put(&out, WEIR_STR("s="));
    weir_put(&out, word, (uint32_t)len);
    weir_put(&out, WEIR_STR(" label="));
    char label[16];
    weir_put(&out, label, (uint32_t)weir_config_get(WEIR_STR("label"), label, sizeof label));
    int64_t whole = -1;
    weir_field_i64(i, &whole);
    weir_put(&out, WEIR_STR(" i="));
    weir_put_f64(&out, (double)whole, 0);
    whole = -1;
    weir_field_i64(b, &whole);
    weir_put(&out, WEIR_STR(" b="));
    weir_put_f64(&out, (double)whole, 0);
    double numbers[8], sum = 0;
    int32_t items = weir_field_f64s(a, numbers, 8);
    for (int32_t at = 0; at < items; at++) {
        if (numbers[at] == numbers[at]) {
            sum += numbers[at];
        }
    }
    weir_put(&out, WEIR_STR(" sum="));
    weir_put_f64(&out, sum, 2);
    weir_put(&out, WEIR_STR(" items="));
    weir_put_f64(&out, items, 0);
    weir_put(&out, WEIR_STR(" n*factor="));
    weir_put_f64(&out, event->fields[n] * factor, -1);
    weir_put(&out, WEIR_STR(" o="));
    char object[16];
    int32_t object_len = weir_field_str(o, object, sizeof object);
    weir_put(&out, object_len < 0 ? "-" : object, object_len < 0 ? 1 : (uint32_t)object_len);
    weir_put(&out, WEIR_STR(" part="));
    char part[4];
    weir_put(&out, part, (uint32_t)weir_payload(1, part, sizeof part));
    weir_put(&out, WEIR_STR(" topic="));
    weir_put(&out, event->topic, event->topic_len);
    weir_put(&out, WEIR_STR(" now="));
    weir_put_f64(&out, (double)weir_now_ms(), 0);
    weir_put(&out, WEIR_STR(" kinds="));
    weir_put_f64(&out, weir_field_kind(s), 0);
    weir_put(&out, WEIR_STR(","));
    weir_put_f64(&out, weir_field_kind(a), 0);
    weir_put(&out, WEIR_STR(","));
    weir_put_f64(&out, weir_field_kind(absent), 0);
    weir_put(&out, WEIR_STR(","));
    weir_put_f64(&out, weir_field_kind(b), 0);
    weir_put(&out, WEIR_STR(" before="));
    double before;
    if (weir_state_get(key.space, key.len, &before, sizeof before) == sizeof before) {
        weir_put_f64(&out, before, -1);
    } else {
        weir_put(&out, WEIR_STR("none"));
    }
    before = 3.5;
    weir_state_put(key.space, key.len, &before, sizeof before);
    weir_meter_add(c, NULL, 0, 1);
    weir_meter_set(g, NULL, 0, event->fields[n]);
    weir_meter_observe(d, NULL, 0, event->fields[n] * factor);
    weir_log(WEIR_INFO, WEIR_STR("seen"));
    unsigned char dice[4];
    if (weir_random(dice, sizeof dice) != 0 || weir_lookup_f64(WEIR_STR("n")) != event->fields[n]) {
        return -16;
    }
    struct weir_text topic = WEIR_TEXT((char[64]){0});
    weir_put(&topic, WEIR_STR("out/"));
    weir_put(&topic, event->device, event->device_len);
    int32_t code = weir_emit_text(&topic, &out);
    return code < 0 ? code : WEIR_DONE;
}

int32_t on_interval(const struct weir_event *event) {
    struct weir_text out = WEIR_TEXT((char[8]){0});
    weir_put_f64(&out, event->kind, 0);
    int32_t code = weir_emit(WEIR_STR("out/interval"), out.space, out.len);
    return code < 0 ? code : WEIR_DONE;
}
