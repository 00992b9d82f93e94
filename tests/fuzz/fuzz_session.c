/*
 * Whole sessions, over session code as it is: callers and upstreams say what the input has for
 * them, and whatever that is, the laws hold (play.h).
 *
 * Input: letters that say what the world is (play.c), then pieces that begin with `|`:
 *
 *   c BYTES    the caller says this, and all that comes of it happens
 *   k BYTES    it says this, and goes on at once
 *   F DIGIT    it says 2^DIGIT lines of 62 octets and CRLF
 *   n LETTERS  the next caller comes: t: STARTTLS is offered, e: and demanded, p: PROXY is spoken
 *   e, r       the caller half-closes, resets
 *   0 S BYTES  upstream 0 (1, 2) will say this at stage S (play.h), once; nothing: it is silent
 *   a BYTES    upstream 0 (b: 1, d: 2) says this unasked, on its newest connection
 *   x, y DIGIT an upstream closes, resets its newest connection
 *   z DIGIT    an upstream goes, or comes back: new connections are refused
 *   w DIGIT    time passes
 *   D, L       the daemon drains, reloads
 */
#include "tests/fuzz/play.h"
#include "tests/fuzz/require.h"

#define AT_ONCE 400 /* milliseconds in which all that happens at once has happened */

static struct span take_piece(struct span *rest)
{
    const struct span piece = span_first(*rest, span_find(*rest, '|'));
    *rest = span_skip(*rest, piece.len + 1);
    return piece;
}

static unsigned digit(struct span bytes)
{
    return bytes.len > 0 && bytes.ptr[0] >= '0' && bytes.ptr[0] <= '9'
               ? (unsigned)(bytes.ptr[0] - '0')
               : 0;
}

static struct caller *caller_of(struct play *play)
{
    return play->callers[play->caller_count - 1];
}

static void next_caller(struct play *play, struct span letters)
{
    enum config_listen_tls tls = LISTEN_TLS_NONE;
    if (play->caller_count == PLAY_CALLERS) {
        return;
    }
    if (span_find(letters, 't') < letters.len) {
        tls = LISTEN_TLS_MAY;
    } else if (span_find(letters, 'e') < letters.len) {
        tls = LISTEN_TLS_ENCRYPT;
    }
    play->callers[play->caller_count] =
        caller_new(play, tls, span_find(letters, 'p') < letters.len);
    play->caller_count++;
}

static void say_lines(struct play *play, unsigned count)
{
    static const char line[] = "abcdefghijklmnopqrstuvwxyzabcdefghijklmnopqrstuvwxyzabcdefghij\r\n";
    for (unsigned i = 0; i < count; i++) {
        caller_says(caller_of(play), span_make(line, 64));
    }
}

static void keep_line(struct play *play, unsigned relay, struct span bytes)
{
    struct line_of_play **at = &play->lines;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    if (bytes.len != 0) {
        *at = sim_alloc(1, sizeof **at);
        (*at)->relay = relay;
        (*at)->stage = bytes.ptr[0];
        buffer_put(&(*at)->bytes, span_skip(bytes, 1));
    }
}

static struct upstream_end *newest_end(struct play *play, unsigned relay)
{
    struct upstream_end *end = play->ends;
    while (end != NULL && (end->relay != relay || end->link == NULL)) {
        end = end->next;
    }
    return end;
}

static void upstream_speaks(struct play *play, unsigned relay, struct span bytes)
{
    struct upstream_end *end = newest_end(play, relay);
    if (end != NULL) {
        upstream_end_says(end, bytes);
    }
}

static void upstream_goes(struct play *play, unsigned relay, bool reset)
{
    struct upstream_end *end = newest_end(play, relay);
    if (end != NULL) {
        upstream_end_closes(end, reset);
    }
}

static void pass_time(struct play *play, unsigned number)
{
    static const uint64_t seconds[] = {1, 5, 11, 31, 61, 121, 301, 545, 601, 3601};
    play_run(play, seconds[number] * 1000);
}

static void reload(struct play *play)
{
    struct policy *policy = sim_policy_new(&play->sim);
    world_set_policy(&play->sim.world, policy);
    policy_unref(policy);
    sim_settle(&play->sim);
}

static void drain(struct play *play)
{
    if (!play->sim.world.draining) {
        world_drain(&play->sim.world, play->sim.world.now + 30000);
        sim_settle(&play->sim);
    }
}

static void do_piece(struct play *play, char kind, struct span bytes)
{
    switch (kind) {
    case 'c':
    case 'k':
        caller_says(caller_of(play), bytes);
        break;
    case 'F':
        say_lines(play, 1u << digit(bytes));
        break;
    case 'n':
        next_caller(play, bytes);
        break;
    case 'e':
        caller_half_closes(caller_of(play));
        break;
    case 'r':
        caller_resets(caller_of(play));
        break;
    case '0':
    case '1':
    case '2':
        keep_line(play, (unsigned)(kind - '0'), bytes);
        break;
    case 'a':
    case 'b':
    case 'd':
        upstream_speaks(play, kind == 'd' ? 2 : (unsigned)(kind - 'a'), bytes);
        break;
    case 'x':
    case 'y':
        upstream_goes(play, digit(bytes) % PLAY_RELAYS, kind == 'y');
        break;
    case 'z':
        play->down[digit(bytes) % PLAY_RELAYS] ^= true;
        break;
    case 'w':
        pass_time(play, digit(bytes));
        break;
    case 'D':
        drain(play);
        break;
    case 'L':
        reload(play);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rest = span_make((const char *)data, size);
    if (size > PLAY_INPUT) {
        return 0;
    }
    struct play *play = play_new(take_piece(&rest));
    next_caller(play,
                rest.len > 0 && rest.ptr[0] == 'n' ? span_skip(take_piece(&rest), 1) : SPAN(""));
    while (rest.len > 0) {
        const struct span piece = take_piece(&rest);
        if (piece.len > 0) {
            do_piece(play, piece.ptr[0], span_skip(piece, 1));
            if (piece.ptr[0] != 'k') {
                play_run(play, AT_ONCE);
            }
        }
    }
    play_free(play);
    return 0;
}
