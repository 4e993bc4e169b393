/*
 * The client library as a C ABI: rows of an Engram table, from memory servers into the caller's
 * buffers, while the caller does something else. libengram_client.so exports exactly what stands
 * here; engram_client.hpp wraps it for C++.
 *
 *   engram_client* client;
 *   engram_client_connect_json("{\"servers\": [\"10.0.0.1:50051\"]}", NULL, NULL, &client);
 *   engram_ticket* ticket;
 *   engram_ticket_create(&ticket);
 *   engram_rows rows = {.layer = 1, .ids = ids, .count = n, .out = out, .out_bytes = n * 264};
 *   engram_client_submit_rows(client, &rows, 1, NULL, ticket);
 *   ... compute layer 0 ...
 *   engram_ticket_wait(ticket, 1, ENGRAM_FOREVER);        // out is in place
 *
 * Each of these returns NULL, or an engram_status that says what is wrong and is to be freed (which
 * this sketch leaves out; client/examples/lookup.c is whole).
 *
 * Status    Whatever can fail returns engram_status*: NULL is OK, anything else is the caller's, to
 *           be read by engram_status_code and engram_status_message and freed by
 *           engram_status_free. Codes are gRPC's. Where a status is returned, nothing was written
 *           to output arguments. A handle or pointer that must not be NULL and is: INVALID_ARGUMENT
 *           naming the argument. Nothing throws, and no argument that this page describes crashes.
 * Handles   Opaque; made by *_create, *_start and *_connect*, ended by *_destroy, which takes NULL.
 *           Tickets, slots and prefetches may be used and destroyed after their client, which ends
 *           what they wait for (CANCELLED).
 * Structs   Those that begin with struct_size may grow: start them with their *_INIT, which sets
 *           it. Fields added later are 0 there, and 0 means what it meant before they were. A
 *           struct_size below the first version's, or one of a newer header with something other
 *           than 0 in fields that this library does not know, is INVALID_ARGUMENT. Structs without
 *           struct_size never change.
 * Times     Microseconds, relative to the call. A timeout below 0 is ENGRAM_FOREVER; 0 looks once.
 * Threads   All engram_client_* calls on one client are safe from any number of threads. The other
 *           handles say theirs below. Callbacks come on the client's I/O thread unless they say
 *           otherwise: they must not block, throw, or destroy the client.
 * Process   A client starts threads of its own ("engram-io-0", ...; "engram-dns"), which run with
 *           all signals as their creator had them, until engram_client_destroy. It changes nothing
 *           process-wide: no signal handlers, no malloc settings, no output. A wait is not ended by
 *           a signal: wait in slices to handle them. In a child made by fork every submit and
 *           set_servers is FAILED_PRECONDITION, waits for what was not done before the fork are
 *           FAILED_PRECONDITION, and destroying works; connect again there.
 * Borrowed  Ids, tokens, masks and buffers of a lookup are borrowed until it is done (its wait has
 *           returned anything but DEADLINE_EXCEEDED of its own timeout) or its handle is destroyed.
 *           Structs, arrays of structs, strings and option arrays only during the call.
 */
#ifndef ENGRAM_CLIENT_H_
#define ENGRAM_CLIENT_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ENGRAM_API __attribute__((visibility("default")))
#define ENGRAM_CHECKED __attribute__((visibility("default"), warn_unused_result))
#else
#define ENGRAM_API
#define ENGRAM_CHECKED
#endif

/* ---- Version ---- */

/* The ABI of this header. Programs built with major M and any minor up to the library's run with
 * it; the SONAME is libengram_client.so.M. */
#define ENGRAM_ABI_MAJOR 1
#define ENGRAM_ABI_MINOR 3
#define ENGRAM_ABI_VERSION (ENGRAM_ABI_MAJOR * 1000 + ENGRAM_ABI_MINOR)

/* ENGRAM_ABI_VERSION of the library. */
ENGRAM_API uint32_t engram_abi_version(void);
/* The project's version, "0.1.0". Static. */
ENGRAM_API const char* engram_version(void);

/* ---- Status ---- */

typedef int32_t engram_code;
enum {
  ENGRAM_OK = 0,
  ENGRAM_CANCELLED = 1,
  ENGRAM_UNKNOWN = 2,
  ENGRAM_INVALID_ARGUMENT = 3, /* mend the call */
  ENGRAM_DEADLINE_EXCEEDED = 4,
  ENGRAM_NOT_FOUND = 5,
  ENGRAM_ALREADY_EXISTS = 6,
  ENGRAM_PERMISSION_DENIED = 7,
  ENGRAM_RESOURCE_EXHAUSTED = 8,  /* back off */
  ENGRAM_FAILED_PRECONDITION = 9, /* the state of things is not what the call needs */
  ENGRAM_ABORTED = 10,
  ENGRAM_OUT_OF_RANGE = 11,
  ENGRAM_UNIMPLEMENTED = 12,
  ENGRAM_INTERNAL = 13,
  ENGRAM_UNAVAILABLE = 14, /* no server that has the rows is up */
  ENGRAM_DATA_LOSS = 15,   /* what came is not what was stored */
  ENGRAM_UNAUTHENTICATED = 16
};

/* Why a call failed. Immutable; any thread. */
typedef struct engram_status engram_status;

ENGRAM_API engram_code engram_status_code(const engram_status* status); /* NULL: ENGRAM_OK */
/* UTF-8, until the status is freed; "" for NULL. */
ENGRAM_API const char* engram_status_message(const engram_status* status);
/* RESOURCE_EXHAUSTED: after how many microseconds trying again may help, as far as it is known;
 * else 0. Since 1.3. */
ENGRAM_API int64_t engram_status_retry_after_us(const engram_status* status);
ENGRAM_API void engram_status_free(engram_status* status); /* NULL: nothing */
/* "INVALID_ARGUMENT"; "UNKNOWN" for what is no code. Static. */
ENGRAM_API const char* engram_code_name(engram_code code);

/* ---- Connecting ---- */

typedef struct engram_client engram_client;

#define ENGRAM_FOREVER ((int64_t)-1)

/* Hash columns [begin, end) of a layer: those of a tensor-parallel rank's heads. {0, 0}: all. */
typedef struct engram_columns {
  uint32_t begin;
  uint32_t end;
} engram_columns;

/* What becomes of rows that no server gives in time. */
typedef int32_t engram_missing_rows;
enum {
  ENGRAM_MISSING_DEFAULT = 0, /* what the client's options say; there: ENGRAM_MISSING_FAIL */
  ENGRAM_MISSING_FAIL = 1,    /* the layer fails */
  /* The token degrades as a whole: all its columns of that layer become zeros, which pass through
   * the model's fusion without effect; flagged and counted. */
  ENGRAM_MISSING_ZEROS = 2
};

/* A line on a server lost or back, or put aside; no newline. Borrowed during the call. */
typedef void (*engram_log_fn)(void* user, const char* line);

/* Values are taken as they stand (0 is 0): start with ENGRAM_CLIENT_OPTIONS_INIT. */
typedef struct engram_client_options {
  size_t struct_size;

  /* Any of the servers, in any order, replicas too: "host:port" or "unix:PATH". A name that stands
   * for several addresses is as many servers. */
  const char* const* servers;
  size_t server_count;

  /* What decides behaviour. */

  /* Refuse any table but that of this digest, 64 hex digits; NULL: what all servers hold. */
  const char* expect_digest;
  /* Nonzero: accept servers that do not hold every row; lookups of missing rows then fail. */
  int32_t allow_partial;
  /* Of lookups that do not say. MISSING_ZEROS: those need `degraded` flags. */
  engram_missing_rows missing_rows;
  /* How long connecting waits for the servers to cover the table. 5 s. */
  int64_t connect_timeout_us;
  /* Of lookups that do not say. 10 s. */
  int64_t lookup_timeout_us;
  /* How often names are looked up again. 2 s. */
  int64_t resolve_interval_us;
  /* Share of the requests whose rows are held against the servers' checksums: 0 none, 1 all. */
  double verify_share;

  /* What decides speed. */

  /* Answer bytes asked for at once of one server. 16 MiB. */
  uint64_t credit_bytes;
  /* Rows of one request at most (the server's limit also holds). 16,384. */
  uint32_t rows_per_request;
  /* Threads that hash, send and scatter. 1, which keeps up with several GB/s. */
  uint32_t io_threads;
  /* Memory that all prefetches together may hold. 1 GiB. */
  uint64_t max_prefetch_bytes;
  /* Memory for rows of n-grams that were fetched before; 0: none is kept. */
  uint64_t cache_bytes;
  /* The columns that the cache keeps. */
  engram_columns cache_columns;
  /* File of n-grams that the cache is filled with before connecting returns; NULL: none. */
  const char* hot_ngrams;
  /* Nonzero: n-grams that a lookup repeats are fetched once. 1. */
  int32_t dedup;
  uint32_t reserved; /* 0 */
  /* How long I/O threads and waits poll before they sleep. A sleeping core takes 50 us and more to
   * wake; a polling one is busy. 0. */
  int64_t spin_us;
  /* Cores of the I/O threads, thread i on cpus[i % cpu_count]; none: anywhere. */
  const int32_t* cpus;
  size_t cpu_count;
  /* Second requests per first one, for those that are slow: 0 never. 0.05, not before 1 ms. */
  double hedge_share;
  int64_t hedge_after_least_us;

  /* May be NULL. Comes on an I/O thread, or on the caller's while it connects. */
  engram_log_fn log;
  void* log_user;
} engram_client_options;

#define ENGRAM_CLIENT_OPTIONS_INIT                                                               \
  {                                                                                              \
    sizeof(engram_client_options), NULL, 0, NULL, 0, ENGRAM_MISSING_DEFAULT, 5000000, 10000000,  \
        2000000, 0.0, (uint64_t)16 << 20, 16384, 1, (uint64_t)1 << 30, 0, {0, 0}, NULL, 1, 0, 0, \
        NULL, 0, 0.05, 1000, NULL, NULL                                                          \
  }

/* The same for languages that have no C initializers. INVALID_ARGUMENT: `options` is NULL. */
ENGRAM_CHECKED engram_status* engram_client_options_init(engram_client_options* options);

/* Asks every server what it holds and opens streams to each.
 *   INVALID_ARGUMENT     the options (named)
 *   FAILED_PRECONDITION  servers of differing tables, or not the expected digest
 *   UNAVAILABLE          rows that no reachable server holds (ranges and servers named), unless
 *                        allow_partial; or no server at all
 *   NOT_FOUND            the file `hot_ngrams` */
ENGRAM_CHECKED engram_status* engram_client_connect(const engram_client_options* options,
                                                    engram_client** client);

/* The same with the options as one JSON object: keys are the fields' names, from `servers` to
 * `hedge_after_least_us`. Lists are arrays (servers, cpus, cache_columns [begin, end]) or one
 * string with commas, allow_partial and dedup true or false, missing_rows "fail" or "zeros".
 * Also INVALID_ARGUMENT, naming the key: unknown, of another type, out of its range.
 * `log` may be NULL. */
ENGRAM_CHECKED engram_status* engram_client_connect_json(const char* json, engram_log_fn log,
                                                         void* log_user, engram_client** client);

/* The same from environment variables: ENGRAM_ and the field's name in upper case
 * (ENGRAM_SERVERS=a:1,b:2). ENGRAM_CONFIG may hold a JSON object of them; a variable of its own
 * goes before it. Also INVALID_ARGUMENT: any other variable that begins with ENGRAM_ (named). */
ENGRAM_CHECKED engram_status* engram_client_connect_env(engram_log_fn log, void* log_user,
                                                        engram_client** client);

/* Fails outstanding lookups with CANCELLED and returns when nothing touches their buffers. Not from
 * a callback. */
ENGRAM_API void engram_client_destroy(engram_client* client);

/* The servers from now on. Lookups go on: servers that are not named any more are asked for
 * resolve_interval_us more, answer that and are let go. INVALID_ARGUMENT as connecting. */
ENGRAM_CHECKED engram_status* engram_client_set_servers(engram_client* client,
                                                        const char* const* servers,
                                                        size_t server_count);

/* Since 1.1. Writes the n-grams that the cache holds, and how often each was asked for of late, to
 * the file `path`, which `hot_ngrams` of another client of the table takes. Waits for the I/O
 * threads, milliseconds a GB of cache; not from a callback. FAILED_PRECONDITION: no cache, fork.
 * CANCELLED: the client is closing. Else the system's code of writing it. */
ENGRAM_CHECKED engram_status* engram_client_save_hot_ngrams(const engram_client* client,
                                                            const char* path);

/* ---- The table ---- */

enum {
  ENGRAM_VALUE_FP8_E4M3 = 1,
  ENGRAM_VALUE_BF16 = 2,
  ENGRAM_VALUE_F16 = 3,
  ENGRAM_VALUE_F32 = 4
};
enum { ENGRAM_SCALE_NONE = 0, ENGRAM_SCALE_UE8M0 = 1 };
enum { ENGRAM_HASH_ENGRAM = 0, ENGRAM_HASH_PLE = 1 };

/* Set struct_size, the library fills the rest. Pointers: until the client is destroyed. */
typedef struct engram_table_info {
  size_t struct_size;
  const char* model;
  const char* digest;     /* 64 hex digits */
  const uint32_t* layers; /* ids of the layers that have a table, in the model's order */
  size_t layer_count;
  uint64_t total_rows; /* of all layers */
  uint32_t columns;    /* rows looked up per token and layer: orders x heads */
  uint32_t max_ngram;  /* orders are 2 .. max_ngram */
  uint32_t heads;      /* per order */
  uint32_t row_bytes;  /* value_bytes + scales */
  int32_t value_type;  /* ENGRAM_VALUE_* */
  uint32_t values;     /* per row, little-endian; the scales behind them */
  uint32_t value_bytes;
  int32_t scale_type; /* ENGRAM_SCALE_* */
  uint32_t scales;    /* scale i is of values [i * values / scales, (i + 1) * values / scales) */
  int32_t hash_rule;  /* ENGRAM_HASH_* */
  uint32_t pad_token;
  uint32_t compressed_vocab;
  uint32_t token_map_tokens; /* token ids are below it; 0: no token map, token ids are refused */
  uint32_t reserved;
  uint64_t seed;
} engram_table_info;
#define ENGRAM_TABLE_INFO_INIT \
  { sizeof(engram_table_info), NULL, NULL, NULL, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 }

ENGRAM_CHECKED engram_status* engram_client_table(const engram_client* client,
                                                  engram_table_info* info);

/* One layer. Set struct_size. Pointers: until the client is destroyed. */
typedef struct engram_layer_info {
  size_t struct_size;
  uint32_t layer;
  uint32_t column_count;
  uint64_t rows;                /* global row ids are 0 .. rows - 1 */
  const uint64_t* column_first; /* [columns]: global id of the column's first row */
  const uint64_t* column_rows;  /* [columns]: its rows, a prime */
  const int64_t* multipliers;   /* [max_ngram]: of the n-gram hash */
  size_t multiplier_count;
} engram_layer_info;
#define ENGRAM_LAYER_INFO_INIT \
  { sizeof(engram_layer_info), 0, 0, 0, NULL, NULL, NULL, 0 }

/* NOT_FOUND: `layer` has no table. */
ENGRAM_CHECKED engram_status* engram_client_layer(const engram_client* client, uint32_t layer,
                                                  engram_layer_info* info);

/* Token id -> compressed id, [tokens], until the client is destroyed. NOT_FOUND: no server has
 * one. */
ENGRAM_CHECKED engram_status* engram_client_token_map(const engram_client* client,
                                                      const uint32_t** compressed, size_t* tokens);

/* Calls `visit` here and now for every range [begin, end) of rows that no connected server holds.
 */
typedef void (*engram_range_fn)(void* user, uint32_t layer, uint64_t begin, uint64_t end);
ENGRAM_CHECKED engram_status* engram_client_missing_ranges(const engram_client* client,
                                                           engram_range_fn visit, void* user);

/* ---- Lookups ---- */

enum {
  ENGRAM_PRIORITY_DEFAULT = 0, /* decode; prefill for a prefetch */
  ENGRAM_PRIORITY_DECODE = 1,  /* servers answer it before prefill */
  ENGRAM_PRIORITY_PREFILL = 2
};

/* Called once on the I/O thread when every layer is in place (`status` NULL) or has failed, with
 * the first failure in the order of layers, borrowed during the call; waits then return at once.
 * It may come before the submit has returned, and has returned when the handle is gone. It may
 * submit other lookups, into other tickets. */
typedef void (*engram_done_fn)(void* user, const engram_status* status);

/* NULL stands for ENGRAM_LOOKUP_OPTIONS_INIT: all defaults. */
typedef struct engram_lookup_options {
  size_t struct_size;
  /* Counted from the submit; then every layer that is not in place fails with DEADLINE_EXCEEDED.
   * 0: the client's lookup_timeout_us. */
  int64_t timeout_us;
  int32_t priority; /* ENGRAM_PRIORITY_* */
  engram_missing_rows missing;
  /* [tokens], or NULL: zeroed by the submit; 1 where a token has degraded in any layer, from when
   * that layer is done. Borrowed like the buffers. degraded_count must be the tokens. */
  uint8_t* degraded;
  size_t degraded_count;
  engram_done_fn on_done; /* NULL: nobody is called */
  void* on_done_user;
} engram_lookup_options;
#define ENGRAM_LOOKUP_OPTIONS_INIT                                                              \
  {                                                                                             \
    sizeof(engram_lookup_options), 0, ENGRAM_PRIORITY_DEFAULT, ENGRAM_MISSING_DEFAULT, NULL, 0, \
        NULL, NULL                                                                              \
  }

/* Global row ids of one layer; -1 asks for no row and gives zeros. */
typedef struct engram_rows {
  uint32_t layer;
  uint32_t reserved;  /* 0 */
  const int64_t* ids; /* [count] */
  size_t count;
  uint8_t* out;     /* [count, row_bytes], row-major, in the order of ids */
  size_t out_bytes; /* exactly that */
} engram_rows;

/* One layer's output of a lookup by tokens. */
typedef struct engram_buffer {
  uint32_t layer;
  uint32_t reserved; /* 0 */
  uint8_t* out;      /* [tokens, columns, row_bytes], row-major */
  size_t out_bytes;  /* exactly that */
} engram_buffer;

/* Row ids of one layer as engines have them: that of (token, column) is element
 * token * token_stride + column * column_stride, strides in elements. */
typedef struct engram_layer_ids {
  const void* ids;   /* int32_t or int64_t */
  int32_t id_bytes;  /* 4 or 8 */
  uint32_t reserved; /* 0 */
  size_t token_stride;
  size_t column_stride;
} engram_layer_ids;

/* A step by row ids. */
typedef struct engram_step_ids {
  size_t struct_size;
  const engram_layer_ids* layers; /* one for each layer of the slot (or buffer), in their order */
  size_t layer_count;
  const uint8_t* mask; /* [tokens], or NULL: a nonzero token gets zeros */
  size_t mask_count;   /* tokens, where there is a mask */
  uint32_t tokens;
  int32_t per_column;  /* nonzero: ids count from their column's first row, not the layer's */
  int32_t own_columns; /* nonzero: the arrays hold the slot's columns alone, else all */
  uint32_t reserved;   /* 0 */
} engram_step_ids;
#define ENGRAM_STEP_IDS_INIT \
  { sizeof(engram_step_ids), NULL, 0, NULL, 0, 0, 0, 0, 0 }

/* What a sequence's next chunk needs to know of the positions before it. All zeros stand at the
 * start of a sequence; a copy is an independent branch (speculative drafts). May be stored and
 * loaded as bytes, for the same table. */
typedef struct engram_lookback {
  uint32_t depth;
  uint32_t ids[7]; /* compressed ids, the newest first */
} engram_lookback;

/* One submitted lookup after the other. One thread at a time. */
typedef struct engram_ticket engram_ticket;

ENGRAM_CHECKED engram_status* engram_ticket_create(engram_ticket** ticket);
/* Cancels what is outstanding; returns when nothing touches the buffers any more. */
ENGRAM_API void engram_ticket_destroy(engram_ticket* ticket);

/* Start a lookup of some layers, the nearest first, and return in microseconds: ids are looked at
 * on the I/O thread, so what is wrong with them is said by the wait. A ticket may be used again and
 * again: what it held ends first, as by engram_ticket_destroy; after a refusal it is empty.
 *   INVALID_ARGUMENT     no layers, a layer twice, a buffer of the wrong size, `degraded` flags
 *                        that are not one for each token
 *   NOT_FOUND            a layer without a table
 *   FAILED_PRECONDITION  in a child made by fork
 *   CANCELLED            the client is closing */
ENGRAM_CHECKED engram_status* engram_client_submit_rows(engram_client* client,
                                                        const engram_rows* layers,
                                                        size_t layer_count,
                                                        const engram_lookup_options* options,
                                                        engram_ticket* ticket);

/* The same by ids of any width, stride and base; ids->layers[i] is of outputs[i]. All columns
 * (own_columns means nothing here). */
ENGRAM_CHECKED engram_status* engram_client_submit_ids(
    engram_client* client, const engram_step_ids* ids, const engram_buffer* outputs,
    size_t output_count, const engram_lookup_options* options, engram_ticket* ticket);

/* The same from token ids: hashes the chunk `tokens` [token_count] of a sequence whose earlier
 * positions are in `state`, and moves `state` past it. `dead` [token_count], or NULL: nonzero
 * positions are not hashed and get zeros.
 * Also INVALID_ARGUMENT: a token id beyond the token map, a state that is none (`state` is
 * unchanged). FAILED_PRECONDITION: no token map. */
ENGRAM_CHECKED engram_status* engram_client_submit_tokens(
    engram_client* client, const uint32_t* tokens, size_t token_count, const uint8_t* dead,
    engram_lookback* state, const engram_buffer* outputs, size_t output_count,
    const engram_lookup_options* options, engram_ticket* ticket);

/* Returns when the layer's rows are in place, or will never be:
 *   OUT_OF_RANGE         a row id is not one of the layer's (position and id named)
 *   UNAVAILABLE          no server that holds a row is up; names servers and range
 *   FAILED_PRECONDITION  a server no longer holds the client's table; an empty ticket; fork
 *   DEADLINE_EXCEEDED    the lookup's timeout; or `timeout_us`, which leaves the lookup running
 *   CANCELLED            the client was destroyed
 *   DATA_LOSS, INTERNAL  what a server sent cannot be trusted
 *   NOT_FOUND            the lookup has no such layer
 * After a failure the layer's buffer holds unspecified bytes: never use them. */
ENGRAM_CHECKED engram_status* engram_ticket_wait(engram_ticket* ticket, uint32_t layer,
                                                 int64_t timeout_us);
/* For every layer; the first failure in the order of layer ids. */
ENGRAM_CHECKED engram_status* engram_ticket_wait_all(engram_ticket* ticket, int64_t timeout_us);
/* *done = 1: a wait for the layer would return at once; else 0. */
ENGRAM_CHECKED engram_status* engram_ticket_done(const engram_ticket* ticket, uint32_t layer,
                                                 int32_t* done);

/* ---- Slots: a step's rows at addresses that never change, as CUDA graphs need them ---- */

/* A slot is idle (no step yet, or every layer of the last one is done): buffers, words and what a
 * step borrows are the caller's. Or a step is under way: they are the library's, but a layer's
 * buffer and word may be read as soon as that layer is done. It is under way until its timeout at
 * the latest. Waits, done and cancel: any threads at once. Submits and destroy: only while no other
 * call on the slot runs. */
typedef struct engram_slot engram_slot;

/* A layer's word. Never a growing number: a CUDA graph bakes the value that it waits for. */
#define ENGRAM_WORD_PENDING ((uint64_t)0)
#define ENGRAM_WORD_READY ((uint64_t)1) /* the rows are in place; they were written before */
#define ENGRAM_WORD_ERROR ((uint64_t)2) /* they will never be; the buffer holds zeros */

enum {
  ENGRAM_TOKEN_MAJOR = 0, /* [tokens, columns, row_bytes] */
  ENGRAM_HEAD_MAJOR = 1   /* [columns, tokens, row_bytes] */
};

/* One layer's buffers, the caller's. */
typedef struct engram_layer_memory {
  uint8_t* rows;     /* [max_tokens, columns, row_bytes]; value_bytes with scales apart */
  size_t rows_bytes; /* at least that */
  uint8_t* scales;   /* [max_tokens, columns, scales] where they are apart, else NULL */
  size_t scales_bytes;
} engram_layer_memory;

typedef struct engram_slot_options {
  size_t struct_size;
  const uint32_t* layers; /* ascending; none: all */
  size_t layer_count;
  engram_columns columns; /* of each token */
  uint32_t max_tokens;
  int32_t order;        /* ENGRAM_TOKEN_MAJOR or ENGRAM_HEAD_MAJOR */
  int32_t split_scales; /* nonzero: values and scales in buffers of their own */
  /* Nonzero: submitting leaves the words alone, the caller's stream sets them to pending. */
  int32_t caller_resets_words;
  /* The caller's memory, one for each layer, and words, aligned to 8 bytes; none: the slot's. They
   * must outlive the slot. */
  const engram_layer_memory* memory;
  size_t memory_count;
  uint64_t* words;
  size_t word_count;
} engram_slot_options;
#define ENGRAM_SLOT_OPTIONS_INIT \
  { sizeof(engram_slot_options), NULL, 0, {0, 0}, 0, ENGRAM_TOKEN_MAJOR, 0, 0, NULL, 0, NULL, 0 }

/* Host memory that such a slot would own. Errors as engram_slot_create. */
ENGRAM_CHECKED engram_status* engram_slot_host_bytes(const engram_client* client,
                                                     const engram_slot_options* options,
                                                     uint64_t* bytes);
/* INVALID_ARGUMENT: the options (named). NOT_FOUND: a layer without a table. RESOURCE_EXHAUSTED:
 * no memory. */
ENGRAM_CHECKED engram_status* engram_slot_create(const engram_client* client,
                                                 const engram_slot_options* options,
                                                 engram_slot** slot);
/* Cancels a step that is under way; returns when nothing touches the buffers any more. */
ENGRAM_API void engram_slot_destroy(engram_slot* slot);

/* Where one layer's rows are. Set struct_size. Until the slot is destroyed. */
typedef struct engram_slot_layer_info {
  size_t struct_size;
  uint8_t* rows; /* a step of T tokens uses the first T x columns rows, dense in either order */
  size_t rows_bytes;
  uint8_t* scales; /* NULL unless they are apart */
  size_t scales_bytes;
  uint64_t* word; /* read it with acquire order */
} engram_slot_layer_info;
#define ENGRAM_SLOT_LAYER_INFO_INIT \
  { sizeof(engram_slot_layer_info), NULL, 0, NULL, 0, NULL }

/* NOT_FOUND: a layer that the slot has not. */
ENGRAM_CHECKED engram_status* engram_slot_layer(const engram_slot* slot, uint32_t layer,
                                                engram_slot_layer_info* info);

typedef struct engram_prefetch engram_prefetch;

/* Some tokens of a step, all of one sequence: `tokens` with that sequence's state, which submitting
 * moves past them (chunks of one sequence may share it, in order); or, where `prefetch` is not
 * NULL, tokens [first, first + count) of it, and then the fields above are not looked at. */
typedef struct engram_chunk {
  const uint32_t* tokens; /* [token_count] */
  size_t token_count;
  const uint8_t* dead; /* [token_count], or NULL: nonzero positions get zeros */
  engram_lookback* state;
  const engram_prefetch* prefetch;
  size_t first;
  size_t count;
} engram_chunk;

/* Start a step: all layers, the nearest first. Return in microseconds; what is wrong with ids is
 * said by the wait: OUT_OF_RANGE naming layer, token, column and id. A refused submit leaves every
 * word at ENGRAM_WORD_ERROR over zeros (earlier rows are cleared) and states as they were, unless a
 * step is under way, which goes on.
 *   FAILED_PRECONDITION  a step of this slot is under way; no token map (tokens); fork
 *   INVALID_ARGUMENT     more than max_tokens; layers, mask or flags that are not as many as they
 *                        must be; a token beyond the token map; a chunk without state; tokens that
 *                        its prefetch has not, or a prefetch of another client, layers or columns
 *   CANCELLED            the client is closed */
ENGRAM_CHECKED engram_status* engram_slot_submit_ids(engram_slot* slot, const engram_step_ids* ids,
                                                     const engram_lookup_options* options);
ENGRAM_CHECKED engram_status* engram_slot_submit_tokens(engram_slot* slot,
                                                        const engram_chunk* chunks,
                                                        size_t chunk_count,
                                                        const engram_lookup_options* options);

/* As a ticket's, but a failed layer's buffer holds zeros. After a refused submit: its refusal.
 * FAILED_PRECONDITION: before the first submit. */
ENGRAM_CHECKED engram_status* engram_slot_wait(engram_slot* slot, uint32_t layer,
                                               int64_t timeout_us);
ENGRAM_CHECKED engram_status* engram_slot_wait_all(engram_slot* slot, int64_t timeout_us);
ENGRAM_CHECKED engram_status* engram_slot_done(const engram_slot* slot, uint32_t layer,
                                               int32_t* done);
/* Asks for the end of the step under way and does not wait for it: waits then say CANCELLED. */
ENGRAM_CHECKED engram_status* engram_slot_cancel(engram_slot* slot);

/* ---- Prefetches: rows fetched ahead of the step that takes them, or that never will ---- */

typedef struct engram_prefetch_options {
  size_t struct_size;
  const uint32_t* layers; /* ascending; none: all */
  size_t layer_count;
  engram_columns columns;
  int32_t priority;   /* ENGRAM_PRIORITY_* */
  uint32_t reserved;  /* 0 */
  int64_t timeout_us; /* what has not come by then, a step fetches itself; 0: 60 s */
} engram_prefetch_options;
#define ENGRAM_PREFETCH_OPTIONS_INIT \
  { sizeof(engram_prefetch_options), NULL, 0, {0, 0}, ENGRAM_PRIORITY_DEFAULT, 0, 0 }

/* Starts to fetch the rows of a chunk of a sequence into memory that the prefetch owns, and moves
 * `state` past it. Borrows nothing. `options` may be NULL. Errors as engram_client_submit_tokens;
 * RESOURCE_EXHAUSTED: beyond max_prefetch_bytes. The handle is for one thread at a time, except
 * that any number of steps may take of it at once. */
ENGRAM_CHECKED engram_status* engram_prefetch_start(engram_client* client, const uint32_t* tokens,
                                                    size_t token_count, const uint8_t* dead,
                                                    engram_lookback* state,
                                                    const engram_prefetch_options* options,
                                                    engram_prefetch** prefetch);
/* Does not wait: what is outstanding is called off, and the memory goes when nothing uses it. Steps
 * that were submitted with it get their rows. */
ENGRAM_API void engram_prefetch_destroy(engram_prefetch* prefetch);

/* The sequence's state behind the first `tokens` tokens: of a draft, those that were accepted.
 * INVALID_ARGUMENT: more than the prefetch has. */
ENGRAM_CHECKED engram_status* engram_prefetch_state_at(const engram_prefetch* prefetch,
                                                       size_t tokens, engram_lookback* state);
/* Its tokens, and the memory of its rows, which counts in max_prefetch_bytes. Either may be NULL.
 */
ENGRAM_CHECKED engram_status* engram_prefetch_size(const engram_prefetch* prefetch, size_t* tokens,
                                                   uint64_t* bytes);
/* When every layer is in place or has failed: the first failure. No step needs it.
 * DEADLINE_EXCEEDED: also at `timeout_us`. */
ENGRAM_CHECKED engram_status* engram_prefetch_wait(engram_prefetch* prefetch, int64_t timeout_us);

/* ---- Rows on the CPU ---- */

/* Since 1.1. Rows of the client's table, as tickets and slots hold them, to values. `rows` of them:
 * `packed` [rows, row_bytes] and `scales` NULL, or of a slot with split_scales `packed` [rows,
 * value_bytes] and `scales` [rows, scales]; `out` [rows, values] of `type`, ENGRAM_VALUE_BF16 or
 * ENGRAM_VALUE_F32, little-endian. All dense and row-major, at any alignment, without overlap;
 * sizes are exactly those. An fp8 value is value x 2^(scale - 127); scale 255 and e4m3's 0x7F and
 * 0xFF are NaN, scale 0 is 2^-127, f32 to bf16 rounds to nearest even. Borrows for the call alone.
 * INVALID_ARGUMENT, and `out` is as it was: another type, another size (named), overlap. */
ENGRAM_CHECKED engram_status* engram_dequantize_rows(const engram_client* client, size_t rows,
                                                     const uint8_t* packed, size_t packed_bytes,
                                                     const uint8_t* scales, size_t scales_bytes,
                                                     int32_t type, uint8_t* out, size_t out_bytes);

/* ---- Metrics ---- */

enum { ENGRAM_METRIC_COUNTER = 0, ENGRAM_METRIC_GAUGE = 1, ENGRAM_METRIC_HISTOGRAM = 2 };

typedef struct engram_label {
  const char* name;
  const char* value;
} engram_label;

typedef struct engram_metric_bucket {
  double bound;   /* infinite in the last one */
  uint64_t count; /* of values at or below the bound */
} engram_metric_bucket;

/* One sample, in Prometheus' terms. Borrowed during the visit. */
typedef struct engram_metric {
  size_t struct_size;
  const char* name; /* "engram_client_requests_total" */
  const char* help;
  int32_t kind; /* ENGRAM_METRIC_* */
  uint32_t reserved;
  const engram_label* labels;
  size_t label_count;
  double value; /* of a histogram: how many values there were */
  /* Since 1.2, of a histogram; else NULL and 0. */
  const engram_metric_bucket* buckets;
  size_t bucket_count;
  double sum; /* of the values */
} engram_metric;

typedef void (*engram_metric_fn)(void* user, const engram_metric* metric);

/* Calls `visit` here and now for every metric of the client; samples of one name come one behind
 * the other. Metrics may be added, of all three kinds; those of deploy/metrics.md stay. */
ENGRAM_CHECKED engram_status* engram_client_visit_metrics(const engram_client* client,
                                                          engram_metric_fn visit, void* user);

#ifdef __cplusplus
}
#endif

#endif /* ENGRAM_CLIENT_H_ */
