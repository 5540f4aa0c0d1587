// weir.h: functions for a weir gateway in C. ABI version 1; functions/abi/README.md is the specification, this its declaration.
//
// - No C library, no heap. A function is a few exports and calls of the host; functions/threshold-c is an example.
// - Every invocation starts from the memory that on_start left: a static variable that a handler sets is forgotten.
// - A pointer or length outside of the memory, or weir_abort, ends the invocation; everything else answers with a code.
//
// Compile:  clang --target=wasm32-unknown-unknown -std=c17 -Os -ffreestanding -mbulk-memory -c
// Link:     wasm-ld --no-entry -z stack-size=2048 --stack-first --no-growable-memory --strip-all --keep-section=name
//           --compress-relocations --page-size=1       (the last from LLD 22 on; without it a memory has pages of 64 KiB)
// `weir build` does both for NAME.c in a function's folder.
#ifndef WEIR_H
#define WEIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

_Static_assert(sizeof(void *) == 4, "compile for wasm32");

#define WEIR_EXPORT(name) __attribute__((export_name(#name)))
#define WEIR_CALL(name) __attribute__((import_module("weir1"), import_name(#name)))
// A text and its length, for calls that take both: weir_bind(WEIR_STR("meta.name")).
#define WEIR_STR(text) ("" text), (uint32_t)(sizeof(text) - 1)

// Every function states this once: the version of the ABI, and the buffer of `bytes` into which the host writes an event
// (header, fields, topic, device and payload; at least 256).
#define WEIR_FUNCTION(bytes)                                                                                            \
    static _Alignas(8) unsigned char weir_event_buffer[bytes];                                                          \
    _Static_assert((bytes) >= 256, "the event buffer has at least 256 bytes");                                          \
    WEIR_EXPORT(weir_abi) int32_t weir_abi(void) { return 1; } /* the host reads the 1 in the code: compile with -O */  \
    WEIR_EXPORT(weir_buf) int64_t weir_buf(void) {                                                                      \
        return (int64_t)((uint64_t)(uintptr_t)weir_event_buffer << 32 | (bytes));                                       \
    }

// What a function exports besides: the first if it wants, and a handler for each kind of trigger that names it.
WEIR_EXPORT(on_start) int32_t on_start(void);

struct weir_event;
WEIR_EXPORT(on_event) int32_t on_event(const struct weir_event *event);
WEIR_EXPORT(on_interval) int32_t on_interval(const struct weir_event *event);

// What a handler returns. Below zero: an error of the function's own numbering, a dead letter.
enum { WEIR_DROP = 0, WEIR_KEEP = 1, WEIR_DONE = 2 };

// What host calls return below zero. WEIR_TOO_LONG is this header's own.
enum {
    WEIR_ABSENT = -1, // no such thing, or a list is full
    WEIR_INVALID = -2, // the argument makes no sense
    WEIR_WRONG_TYPE = -3,
    WEIR_QUOTA = -4, // a limit of the manifest is reached
    WEIR_DENIED = -5, // the manifest does not allow it, or not in this phase
    WEIR_TOO_LONG = -6, // it does not fit the space that the caller gave
};

// An event: a message, or an interval (which has no topic, payload, device or fields).
struct weir_event {
    uint16_t version;
    uint16_t length;
    uint32_t flags; // WEIR_RETAINED ..
    int64_t time_ms; // when it happened, ms since 1970
    uint64_t sequence; // number of the invocation; the same when it is run again
    const char *topic; // NULL: not wanted, or it does not fit the buffer; its length is true all the same
    uint32_t topic_len;
    const char *payload;
    uint32_t payload_len;
    const char *device;
    uint32_t device_len;
    uint16_t kind; // WEIR_MESSAGE, WEIR_INTERVAL
    uint8_t qos;
    uint8_t time_quality; // 0 unset, 1 restored, 2 synced
    const double *fields; // those of weir_bind_f64, in order
    uint64_t present; // bit i: field i is there, and a number
};
_Static_assert(sizeof(struct weir_event) == 64 && offsetof(struct weir_event, topic) == 24, "the header of ABI version 1");
_Static_assert(offsetof(struct weir_event, kind) == 48 && offsetof(struct weir_event, present) == 56, "and its end");

enum { WEIR_RETAINED = 1, WEIR_CHAINED = 2, WEIR_TIME_FROM_PAYLOAD = 4, WEIR_PAYLOAD_TOO_LONG = 8, WEIR_REPLAYED = 16 };
enum { WEIR_MESSAGE = 1, WEIR_INTERVAL = 2 };

// In on_start only. Of the first two at most 64 each; the same path gives the same id.

// The id of a number that stands beside every event: event->fields[id], if weir_has(event, id).
WEIR_CALL(bind_f64) int32_t weir_bind_f64(const char *path, uint32_t len);
// The id of a field for the weir_field calls.
WEIR_CALL(bind) int32_t weir_bind(const char *path, uint32_t len);
// What is copied beside the header: the sum of these; the default is topic and device.
enum { WEIR_WANT_PAYLOAD = 1, WEIR_WANT_TOPIC = 2, WEIR_WANT_DEVICE = 4 };
WEIR_CALL(want) int32_t weir_want(int32_t bits);
// The id of a meter of the manifest.
WEIR_CALL(meter) int32_t weir_meter(const char *name, uint32_t len);

// Fields of the message. Where a call returns a length it is the true one, and min(length, cap) has been written.

enum {
    WEIR_KIND_ABSENT = 0,
    WEIR_KIND_NULL = 1,
    WEIR_KIND_BOOL = 2,
    WEIR_KIND_INT = 3,
    WEIR_KIND_FLOAT = 4,
    WEIR_KIND_STRING = 5,
    WEIR_KIND_ARRAY = 6,
    WEIR_KIND_OBJECT = 7,
};
WEIR_CALL(field_kind) int32_t weir_field_kind(int32_t id);
// NaN: absent, or not a number.
WEIR_CALL(field_f64) double weir_field_f64(int32_t id);
// A whole number, or 1 and 0 for true and false. 0: it is in `out`.
WEIR_CALL(field_i64) int32_t weir_field_i64(int32_t id, int64_t *out);
// Unescaped text, or the raw bytes of an array or object.
WEIR_CALL(field_str) int32_t weir_field_str(int32_t id, char *dst, uint32_t cap);
// The items of an array, NaN for one that is no number; `cap` and the answer count items.
WEIR_CALL(field_f64s) int32_t weir_field_f64s(int32_t id, double *dst, uint32_t cap);
// Fields that were not bound: the payload is read again for each.
WEIR_CALL(lookup_f64) double weir_lookup_f64(const char *path, uint32_t len);
WEIR_CALL(lookup_str) int32_t weir_lookup_str(const char *path, uint32_t len, char *dst, uint32_t cap);
// Copies the payload from `offset`; how much was copied.
WEIR_CALL(payload) int32_t weir_payload(uint32_t offset, char *dst, uint32_t cap);

// Effects: they take place together when the handler returns 0 or more, and not at all otherwise.

// 0, WEIR_DENIED: the manifest's `emits` does not allow the topic, WEIR_INVALID: it is none, WEIR_QUOTA.
WEIR_CALL(emit) int32_t weir_emit(const char *topic, uint32_t topic_len, const char *payload, uint32_t len);
// Counter, gauge, distribution. A key of no bytes is the device (interval: the empty key).
WEIR_CALL(meter_add) int32_t weir_meter_add(int32_t id, const char *key, uint32_t len, double value);
WEIR_CALL(meter_set) int32_t weir_meter_set(int32_t id, const char *key, uint32_t len, double value);
WEIR_CALL(meter_observe) int32_t weir_meter_observe(int32_t id, const char *key, uint32_t len, double value);
// Durable state, committed with the message. Keys have at most 64 bytes (weir_key makes them), values at most 4 KiB.
WEIR_CALL(state_get) int32_t weir_state_get(const char *key, uint32_t len, void *dst, uint32_t cap);
WEIR_CALL(state_put) int32_t weir_state_put(const char *key, uint32_t len, const void *value, uint32_t value_len);
WEIR_CALL(state_delete) int32_t weir_state_delete(const char *key, uint32_t len);
enum { WEIR_ERROR = 1, WEIR_WARN = 2, WEIR_INFO = 3, WEIR_DEBUG = 4 };
WEIR_CALL(log) void weir_log(int32_t level, const char *text, uint32_t len);

// The rest.

// A setting as text, or as a number. Text that is no number refuses the load, and the message names the key.
WEIR_CALL(config_get) int32_t weir_config_get(const char *key, uint32_t len, char *dst, uint32_t cap);
WEIR_CALL(config_f64) double weir_config_f64(const char *key, uint32_t len, double otherwise);
// A number as JSON, at most 32 bytes: with 0..9 decimals, or (-1) as short as reads back the same.
WEIR_CALL(format_f64) int32_t weir_format_f64(double value, int32_t decimals, char *dst, uint32_t cap);
// The time of processing, ms since 1970; the same throughout an invocation.
WEIR_CALL(now_ms) int64_t weir_now_ms(void);
// Up to 256 random bytes; the same when the invocation is run again.
WEIR_CALL(random) int32_t weir_random(void *dst, uint32_t len);
// Ends the invocation; the text stands in the dead letter, or in the reason why the function was not loaded.
WEIR_CALL(abort) void weir_abort(const char *text, uint32_t len);

// From here on C on top of the calls.

// Whether the number that weir_bind_f64 called `id` is there.
static inline bool weir_has(const struct weir_event *event, int32_t id) {
    return event->present >> id & 1;
}

// Bytes put one behind another in `space`; what does not fit is left out, and `cut` says so.
struct weir_text {
    char *space;
    uint32_t cap;
    uint32_t len;
    bool cut;
};

// struct weir_text topic = WEIR_TEXT((char[128]){0});
#define WEIR_TEXT(array) {(array), sizeof(array), 0, false}

static inline void weir_put(struct weir_text *text, const char *bytes, uint32_t len) {
    if (text->cut || text->cap - text->len < len) {
        text->cut = true;
        return;
    }
    __builtin_memcpy(text->space + text->len, bytes, len);
    text->len += len;
}

static inline void weir_put_f64(struct weir_text *text, double value, int32_t decimals) {
    char digits[32];
    int32_t len = weir_format_f64(value, decimals, digits, sizeof digits);
    weir_put(text, digits, len < 0 ? 0 : (uint32_t)len);
}

static inline int32_t weir_emit_text(const struct weir_text *topic, const struct weir_text *payload) {
    if (topic->cut || payload->cut) {
        return WEIR_TOO_LONG;
    }
    return weir_emit(topic->space, topic->len, payload->space, payload->len);
}

// A state key of at most 64 bytes, NAME:KEY; of a longer one NAME~ and the 64-bit FNV-1a hash of KEY, as the Rust SDK does.
static inline struct weir_text weir_key(char space[64], const char *name, uint32_t name_len, const char *key, uint32_t len) {
    struct weir_text text = {space, 64, 0, false};
    weir_put(&text, name, name_len);
    if (name_len + 1 + len <= 64) {
        weir_put(&text, ":", 1);
        weir_put(&text, key, len);
        return text;
    }
    uint64_t hash = 0xcbf29ce484222325;
    for (uint32_t i = 0; i < len; i++) {
        hash = (hash ^ (unsigned char)key[i]) * 0x100000001b3;
    }
    hash = __builtin_bswap64(hash);
    weir_put(&text, "~", 1);
    weir_put(&text, (const char *)&hash, 8);
    return text;
}

#endif
