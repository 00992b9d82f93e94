/* A set of the ledger as bytes, with the checksum that they lack: what is read is written again and
 * is the same then; and the ledger lives with whatever came back. */
#include "proxy/session/ledger.h"
#include "proxy/session/ledger_format.h"
#include "tests/fuzz/require.h"

#define NOW 1800000000

/* The bytes, closed as a record is; freed by the caller. */
static struct span closed(const uint8_t *data, size_t size)
{
    static const struct hash_key key = {{0, 0}};
    char *record = malloc(size + 8);
    require(record != NULL);
    memcpy(record, size != 0 ? (const char *)data : record, size);
    uint64_t sum = hash_bytes(&key, record, size);
    for (unsigned i = 0; i < 8; i++) {
        record[size + i] = (char)(sum >> 8 * i & 0xff);
    }
    return span_make(record, size + 8);
}

/* What it is written as, in a buffer of the caller's; length 0: it is no set. */
static struct span rewritten(struct span record, char **buffer, size_t *cap)
{
    struct ledger_members members;
    struct ledger_set *set = NULL;
    struct span out = {0};
    require(ledger_members_init(&members, 1));
    enum ledger_parse result = ledger_parse(&members, record, &set);
    require(result != LEDGER_NO_MEMORY && (result == LEDGER_PARSED) == (set != NULL));
    if (set != NULL) {
        out = ledger_format(set, buffer, cap);
        require(out.len != 0);
        ledger_set_free(&members, set);
    }
    require(members.octets == 0 && members.count == 0 && members.records == 0);
    ledger_members_release(&members);
    return out;
}

/* The order of a leg's members is turned round each time, and says nothing. */
static void require_stable(struct span record)
{
    char *buffers[3] = {NULL};
    size_t caps[3] = {0};
    struct span once = rewritten(record, &buffers[0], &caps[0]);
    if (once.len != 0) {
        struct span twice = rewritten(once, &buffers[1], &caps[1]);
        struct span thrice = rewritten(twice, &buffers[2], &caps[2]);
        require(once.len == record.len && twice.len == once.len && span_equal(once, thrice));
    }
    for (int i = 0; i < 3; i++) {
        free(buffers[i]);
    }
}

/* ---- the ledger over it ---- */

static void on_changed(void *store, bool soon)
{
    (void)store;
    (void)soon;
}

static void on_put(void *store, uint64_t set, struct span record)
{
    struct ledger *second = store;
    require(set != 0);
    require(record.len == 0 || ledger_restore(second, set, record));
}

struct one {
    char sender[512], recipient[512];
    size_t sender_length, recipient_length;
};

static void keep_row(void *context, const struct ledger_listed *row)
{
    struct one *one = context;
    if (row->sender.len <= sizeof one->sender && row->recipient.len <= sizeof one->recipient) {
        memcpy(one->sender, row->sender.ptr, row->sender.len);
        memcpy(one->recipient, row->recipient.ptr, row->recipient.len);
        one->sender_length = row->sender.len;
        one->recipient_length = row->recipient.len;
    }
}

static struct ledger *open_ledger(void)
{
    struct ledger *ledger = ledger_new(&(struct ledger_options){
        .seed = 2, .retry_window = 432000, .max_size = 1 << 20, .changed = on_changed});
    require(ledger != NULL);
    return ledger;
}

/* The last of them asks, waits or goes, and has his answer; then what is left is kept. */
static void live_with(struct span record)
{
    static const unsigned char identity[MESSAGE_IDENTITY_SIZE] = {1};
    struct ledger *ledger = open_ledger(), *second = open_ledger();
    struct one one = {0};
    struct ledger_turn turn = {0};
    uint64_t next = 0;
    if (ledger_restore(ledger, 1, record)) {
        require(ledger_list(ledger, 0, keep_row, &one, &next));
        struct span sender = span_make(one.sender, one.sender_length);
        struct span recipient = span_make(one.recipient, one.recipient_length);
        struct ledger_entry entries[] = {{recipient, SPAN("other"), true},
                                         {SPAN("new@example.org"), SPAN("new"), false}};
        ledger_turn(ledger, &turn, &(struct ledger_question){sender, recipient, SPAN("l"), 0}, NOW);
        ledger_join(ledger, &turn, sender, recipient, SPAN("l"), NOW);
        struct ledger_split split = {sender, entries, 2, identity, false};
        ledger_record(ledger, &split, NOW, NULL);
        ledger_settle(ledger, sender, recipient, identity);
        require(ledger_take(ledger, SIZE_MAX, on_put, second) != 0);
    }
    ledger_free(ledger);
    ledger_free(second);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span record = closed(data, size);
    require_stable(span_make((const char *)data, size));
    require_stable(record);
    live_with(record);
    free((char *)record.ptr);
    return 0;
}
