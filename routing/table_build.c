#include "routing/table_build.h"

#include <errno.h>
#include <stdlib.h>

#include "routing/address.h"
#include "routing/destination.h"
#include "routing/generation.h"
#include "routing/intern.h"
#include "routing/recent.h"
#include "routing/sorter.h"

#define ATTEMPTS        20    /* at files that change while they are read */
#define DOMAIN_FRACTION 4     /* the sorter of domains has this part of the other's memory */
#define DOMAINS_SEEN    16384 /* a megabyte */
#define UNUSED_DOMAINS  32    /* listed: each pattern is held against all of them */
#define UNUSED_TOLD     20    /* warnings of patterns that never match */
#define ROUTE_BYTES     48    /* of a pattern's value and what LMDB keeps beside it */

/* A route's value in the sorter. */
struct sorted_route {
    uint32_t destination;
    uint32_t file;
    uint32_t line;
    uint32_t column;
};

struct builder {
    const struct table_build *build;
    const struct config *config;
    struct diag_list *diags;
    const char **files;          /* paths of the route files */
    bool *yaml;                  /* beside files */
    struct source_stamp *stamps; /* beside files */
    uint32_t file_count;
    uint32_t file; /* being read */
    struct sorter *routes;
    struct sorter *domains;
    struct recent *seen; /* domains that are in the sorter */
    struct intern *destinations;
    struct destination_places *places; /* beside destinations */
    size_t place_room;
    char *packed; /* room for one, its places before it */
    uint64_t bytes;
    uint64_t written;
    unsigned unused; /* warnings of patterns that never match */
    bool unreadable; /* one of the files: told, the others are still read for their errors */
    bool broken;     /* memory or the spill file: already told */
};

static bool broken(struct builder *builder, const char *what)
{
    if (!builder->broken) {
        diag_machine(builder->diags, "%s: routes cannot be sorted here: %s", builder->build->folder,
                     what);
    }
    builder->broken = true;
    return false;
}

static void builder_release(struct builder *builder)
{
    free(builder->files);
    free(builder->yaml);
    free(builder->stamps);
    sorter_free(builder->routes);
    sorter_free(builder->domains);
    recent_free(builder->seen);
    intern_free(builder->destinations);
    free(builder->places);
    free(builder->packed);
}

static bool builder_init(struct builder *builder, const struct table_build *build,
                         struct diag_list *diags)
{
    size_t count = build->config->routes.count;
    *builder = (struct builder){
        .build = build, .config = build->config, .diags = diags, .file_count = (uint32_t)count};
    builder->files = calloc(count + 1, sizeof(const char *));
    builder->yaml = calloc(count + 1, sizeof(bool));
    builder->stamps = calloc(count + 1, sizeof(struct source_stamp));
    builder->routes = sorter_new(build->folder, build->run_bytes);
    builder->domains = sorter_new(build->folder, build->run_bytes / DOMAIN_FRACTION);
    builder->seen = recent_new(DOMAINS_SEEN);
    builder->destinations = intern_new();
    builder->packed = malloc(sizeof(struct destination_places) + DESTINATION_PACKED);
    if (!builder->files || !builder->yaml || !builder->stamps || !builder->routes ||
        !builder->domains || !builder->destinations || !builder->packed) {
        return broken(builder, "out of memory");
    }
    for (size_t i = 0; i < count; i++) {
        builder->files[i] = build->config->routes.items[i].text;
        builder->yaml[i] = import_is_yaml(builder->files[i]);
    }
    return true;
}

static bool add_domain(struct builder *builder, struct span domain)
{
    builder->bytes += domain.len + ROUTE_BYTES;
    return sorter_add(builder->domains, domain, SPAN("")) == SORTER_OK ||
           broken(builder, strerror(errno));
}

/* The domain spelled in a key of a YAML route (law 4); `*` spells none. */
static bool derive_domain(struct builder *builder, struct span key)
{
    size_t at = span_rfind(key, '@');
    struct span domain = at < key.len ? span_skip(key, at + 1) : key;
    if (span_equal(key, SPAN("*")) || recent_has(builder->seen, domain)) {
        return true;
    }
    recent_add(builder->seen, domain);
    return add_domain(builder, domain);
}

static bool remember_places(struct builder *builder, uint32_t number,
                            const struct import_route *route)
{
    const struct diag_place *at[] = {&route->to_place, &route->fallback_place,
                                     &route->unknown_place};
    if (number == builder->place_room) {
        size_t room = builder->place_room ? builder->place_room * 2 : 16;
        struct destination_places *places = realloc(builder->places, room * sizeof(*places));
        if (!places) {
            return broken(builder, "out of memory");
        }
        builder->places = places;
        builder->place_room = room;
    }
    struct destination_places *places = &builder->places[number];
    *places = (struct destination_places){.file = builder->file};
    for (int i = 0; i < DESTINATION_PARTS; i++) {
        places->line[i] = at[i]->line;
        places->column[i] = at[i]->column;
    }
    return true;
}

static bool intern_destination(struct builder *builder, const struct import_route *route,
                               uint32_t *number)
{
    struct span packed = destination_pack(route, builder->packed);
    switch (intern_add(builder->destinations, packed, number)) {
    case INTERN_NEW:
        builder->bytes += packed.len + sizeof(struct destination_places) + ROUTE_BYTES;
        return remember_places(builder, *number, route);
    case INTERN_KNOWN:
        return true;
    case INTERN_NO_MEMORY:
        break;
    }
    return broken(builder, "out of memory");
}

/* Whether mail for a domain that the pattern's domain stands for is accepted. */
static bool is_accepted(const struct builder *builder, struct span domain)
{
    const struct config_texts *domains = &builder->config->domains;
    for (size_t i = 0; i < domains->count; i++) {
        struct span listed = span_of(domains->items[i].text);
        if (span_equal(listed, domain) || (listed.ptr[0] == '.' && span_ends(domain, listed)) ||
            (domain.ptr[0] == '.' && span_ends(listed, domain))) {
            return true;
        }
    }
    return false;
}

static bool is_postmaster(const struct builder *builder, struct span key)
{
    struct span name = SPAN("postmaster@");
    return span_starts_fold(key, name) &&
           span_equal_fold(span_skip(key, name.len), span_of(builder->config->hostname.text));
}

static bool has_high_bytes(struct span s)
{
    unsigned char all = 0;
    for (size_t i = 0; i < s.len; i++) {
        all |= (unsigned char)s.ptr[i];
    }
    return all >= 0x80;
}

/* What no address that is accepted can match. Told of the first few: warnings may not crowd errors
 * out, nor a long list of `domains:` be searched for each of millions. */
static void warn_unused(struct builder *builder, const struct import_route *route)
{
    size_t at = span_rfind(route->key, '@');
    bool mailbox = at < route->key.len;
    struct span domain = mailbox ? span_skip(route->key, at + 1) : route->key;
    bool word = !mailbox && span_find(domain, '.') == domain.len && domain.ptr[0] != '[' &&
                !span_equal(domain, SPAN("localhost"));
    bool listed =
        builder->config->domains_given && builder->config->domains.count <= UNUSED_DOMAINS;
    if (span_equal(domain, SPAN("*")) || builder->unused == UNUSED_TOLD) {
        return;
    }
    builder->unused++;
    if (has_high_bytes(route->key) && !builder->config->smtputf8) {
        diag_warning(builder->diags, route->place,
                     "`%.*s` is never used: addresses beyond ASCII need `smtputf8: true`",
                     SPAN_ARGS(route->key));
    } else if (word && !is_accepted(builder, domain)) {
        diag_warning(builder->diags, route->place,
                     "`%.*s` is read as a domain; a mailbox is written %.*s@domain",
                     SPAN_ARGS(domain), SPAN_ARGS(domain));
    } else if (listed && !is_accepted(builder, domain) && !is_postmaster(builder, route->key)) {
        diag_warning(builder->diags, route->place,
                     "`%.*s` is never used: its domain is not in `domains:`",
                     SPAN_ARGS(route->key));
    } else {
        builder->unused--;
    }
}

static bool take_route(void *context, const struct import_route *route)
{
    struct builder *builder = context;
    struct sorted_route value = {
        .file = builder->file, .line = route->place.line, .column = route->place.column};
    quiet_rest(builder->build->quiet);
    warn_unused(builder, route);
    bool derive = builder->yaml[builder->file] && !builder->config->domains_given;
    if (!intern_destination(builder, route, &value.destination)) {
        return false;
    }
    if (derive && !derive_domain(builder, route->key)) {
        return false;
    }
    builder->bytes += route->key.len + ROUTE_BYTES;
    struct span bytes = span_make((const char *)&value, sizeof(value));
    return sorter_add(builder->routes, route->key, bytes) == SORTER_OK ||
           broken(builder, strerror(errno));
}

void table_tell_unreadable(const struct config *config, const struct config_text *file, int error,
                           struct diag_list *diags)
{
    const char *hint = "";
    if (import_is_typed(file->text)) {
        hint = "; routes are text: name the text that the table is made from, or what "
               "`postmap -s TYPE:FILE | splitmx import - -o routes.yaml` writes";
    } else if (file->line == 0) {
        hint = "; no `routes:` names another";
    }
    diag_error(diags, config_place(config, file), "routes %s cannot be read: %s%s", file->text,
               error == EINVAL ? "it is no regular file" : strerror(error), hint);
}

/* The stamp first: what is read later can only be newer, which `files_untouched` then sees. */
static void read_files(struct builder *builder)
{
    for (uint32_t i = 0; i < builder->file_count && !builder->broken; i++) {
        builder->file = i;
        if (source_read(builder->files[i], &builder->stamps[i], builder->build->quiet)) {
            import_read(builder->files[i], take_route, builder, builder->diags);
            continue;
        }
        table_tell_unreadable(builder->config, &builder->config->routes.items[i], errno,
                              builder->diags);
        builder->unreadable = true;
    }
    for (size_t i = 0; builder->config->domains_given && i < builder->config->domains.count; i++) {
        if (!add_domain(builder, span_of(builder->config->domains.items[i].text))) {
            return;
        }
    }
}

/* A file written in place so soon after it was stamped that its times are the same still has
 * another digest. Its second stamp is late enough, mostly, for later changes to show in its times:
 * then the file need not be read again at every start. */
static bool files_untouched(struct builder *builder)
{
    for (uint32_t i = 0; i < builder->file_count; i++) {
        struct source_stamp *stamp = &builder->stamps[i], again;
        if (!source_untouched(builder->files[i], stamp)) {
            return false;
        }
        if (stamp->settled) {
            continue;
        }
        if (!source_read(builder->files[i], &again, builder->build->quiet) ||
            !source_same(&again, stamp)) {
            return false;
        }
        *stamp = again;
    }
    return true;
}

/* Only for the errors: the table is compiled again from the file when that is opened. */
static void check_destinations(struct builder *builder)
{
    uint32_t count = intern_count(builder->destinations);
    struct destinations *compiled = destinations_new(count);
    struct destination_context context = {builder->config, builder->build->relays, builder->files,
                                          builder->file_count, builder->diags};
    if (!compiled) {
        broken(builder, "out of memory");
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        destinations_compile(compiled, i, intern_at(builder->destinations, i), &builder->places[i],
                             &context);
    }
    destinations_free(compiled);
}

static void report_duplicate(struct builder *builder, struct span key,
                             const struct sorted_route *first, const struct sorted_route *again)
{
    struct diag_place place = {builder->files[again->file], again->line, again->column};
    if (builder->yaml[first->file] || builder->yaml[again->file]) {
        diag_error(builder->diags, place, "duplicate pattern `%.*s`; it is already at %s:%u:%u",
                   SPAN_ARGS(key), builder->files[first->file], first->line, first->column);
    } else {
        diag_warning(builder->diags, place,
                     "duplicate pattern `%.*s` is not used; the first one, at %s:%u, wins",
                     SPAN_ARGS(key), builder->files[first->file], first->line);
    }
}

/* Writes the routes in order, the first of equal keys. Without a writer only duplicates are told.
 */
static bool write_routes(struct builder *builder, struct generation_writer *writer)
{
    char last[ADDRESS_MAX + 2];
    struct span last_key = {last, 0}; /* no key is empty */
    struct sorted_route first = {0}, now;
    struct sorter_record record;
    enum sorter_status status = sorter_next(builder->routes, &record);
    for (; status == SORTER_OK; status = sorter_next(builder->routes, &record)) {
        quiet_rest(builder->build->quiet);
        memcpy(&now, record.value.ptr, sizeof(now));
        if (span_equal(record.key, last_key)) {
            report_duplicate(builder, record.key, &first, &now);
            continue;
        }
        memcpy(last, record.key.ptr, record.key.len);
        last_key = span_make(last, record.key.len);
        first = now;
        builder->written++;
        struct generation_route route = {now.destination, now.file, now.line};
        if (writer && !generation_put(writer, GENERATION_ROUTES, record.key,
                                      span_make((const char *)&route, sizeof(route)))) {
            return true; /* told at the commit */
        }
    }
    return status == SORTER_END || broken(builder, strerror(errno));
}

static bool write_domains(struct builder *builder, struct generation_writer *writer)
{
    char last[ADDRESS_MAX + 2];
    struct span last_key = {last, 0};
    struct sorter_record record;
    enum sorter_status status = sorter_next(builder->domains, &record);
    for (; status == SORTER_OK; status = sorter_next(builder->domains, &record)) {
        if (span_equal(record.key, last_key) || record.key.len >= sizeof(last)) {
            continue;
        }
        memcpy(last, record.key.ptr, record.key.len);
        last_key = span_make(last, record.key.len);
        if (!generation_put(writer, GENERATION_DOMAINS, record.key, SPAN(""))) {
            return true;
        }
    }
    return status == SORTER_END || broken(builder, strerror(errno));
}

static void put_number(struct generation_writer *writer, enum generation_db db, uint32_t number,
                       struct span value)
{
    generation_put(writer, db, span_make((const char *)&number, sizeof(number)), value);
}

static void write_destinations(struct builder *builder, struct generation_writer *writer)
{
    char *value = builder->packed;
    size_t fixed = sizeof(struct destination_places);
    for (uint32_t i = 0; i < intern_count(builder->destinations); i++) {
        struct span packed = intern_at(builder->destinations, i);
        memcpy(value, &builder->places[i], fixed);
        memcpy(value + fixed, packed.ptr, packed.len);
        put_number(writer, GENERATION_DESTINATIONS, i, span_make(value, fixed + packed.len));
    }
}

static bool write_meta(struct builder *builder, struct generation_writer *writer)
{
    struct generation_header header = {
        .format = GENERATION_FORMAT,
        .file_count = builder->file_count,
        .destination_count = intern_count(builder->destinations),
        .generation = builder->build->generation,
        .routes = builder->written,
    };
    if (!source_digest_config(builder->config, GENERATION_FORMAT, header.config)) {
        return broken(builder, "out of memory");
    }
    for (uint32_t i = 0; i < builder->file_count; i++) {
        put_number(writer, GENERATION_FILES, i, span_of(builder->files[i]));
    }
    generation_put(writer, GENERATION_META, SPAN("header"),
                   span_make((const char *)&header, sizeof(header)));
    generation_put(
        writer, GENERATION_META, SPAN("sources"),
        span_make((const char *)builder->stamps, builder->file_count * sizeof(*builder->stamps)));
    return true;
}

static bool write_generation(struct builder *builder)
{
    size_t before = diag_errors(builder->diags);
    struct generation_writer *writer =
        generation_create(builder->build->path, builder->bytes, builder->diags);
    if (!writer) {
        return false;
    }
    write_destinations(builder, writer);
    if (!write_domains(builder, writer) || !write_routes(builder, writer) ||
        !write_meta(builder, writer) || diag_errors(builder->diags) > before) {
        generation_abort(writer);
        return false;
    }
    return generation_commit(writer, builder->build->quiet, builder->diags);
}

enum attempt { ATTEMPT_OK, ATTEMPT_FAILED, ATTEMPT_AGAIN };

static enum attempt build_once(const struct table_build *build, struct diag_list *diags)
{
    struct builder builder;
    enum attempt result = ATTEMPT_FAILED;
    if (!builder_init(&builder, build, diags)) {
        goto done;
    }
    read_files(&builder);
    if (builder.broken) {
        goto done;
    }
    if (!builder.unreadable && !files_untouched(&builder)) {
        result = ATTEMPT_AGAIN;
        goto done;
    }
    check_destinations(&builder);
    if (diag_errors(diags) > 0) {
        write_routes(&builder, NULL);
    } else if (write_generation(&builder)) {
        result = ATTEMPT_OK;
    }
done:
    builder_release(&builder);
    return result;
}

/* An entry of an attempt's list, and where it belongs: the configuration, then the files in their
 * order, then what has no place. */
struct told {
    const struct diag *diag;
    size_t file;
    size_t index;
};

static size_t file_rank(const struct config *config, const char *file)
{
    if (file && strcmp(file, config->path) == 0) {
        return 0;
    }
    for (size_t i = 0; file && i < config->routes.count; i++) {
        if (strcmp(file, config->routes.items[i].text) == 0) {
            return i + 1;
        }
    }
    return SIZE_MAX;
}

static int compare_told(const void *left, const void *right)
{
    const struct told *a = left, *b = right;
    if (a->file != b->file) {
        return a->file < b->file ? -1 : 1;
    }
    if (a->diag->line != b->diag->line) {
        return a->diag->line < b->diag->line ? -1 : 1;
    }
    if (a->diag->column != b->diag->column) {
        return a->diag->column < b->diag->column ? -1 : 1;
    }
    return a->index < b->index ? -1 : a->index > b->index;
}

static void copy_diag(const struct diag *diag, struct diag_list *to)
{
    struct diag_place place = {diag->file, diag->line, diag->column};
    if (diag->machine) {
        diag_machine(to, "%s", diag->text);
    } else if (diag->level == DIAG_ERROR) {
        diag_error(to, place, "%s", diag->text);
    } else {
        diag_warning(to, place, "%s", diag->text);
    }
}

/* In the order of the files, whichever pass over the routes has found what. */
static void copy_diags(const struct config *config, const struct diag_list *from,
                       struct diag_list *to)
{
    size_t count = diag_count(from);
    struct told *told = calloc(count + 1, sizeof(*told));
    for (size_t i = 0; told && i < count; i++) {
        const struct diag *diag = diag_at(from, i);
        told[i] = (struct told){diag, file_rank(config, diag->file), i};
    }
    if (told) {
        qsort(told, count, sizeof(*told), compare_told);
    }
    for (size_t i = 0; i < count; i++) {
        copy_diag(told ? told[i].diag : diag_at(from, i), to);
    }
    free(told);
}

bool table_build(const struct table_build *build, struct diag_list *diags)
{
    for (int i = 0; i < ATTEMPTS; i++) {
        struct diag_list *own = diag_list_new(); /* what an attempt that is repeated says is moot */
        if (!own) {
            break;
        }
        enum attempt result = build_once(build, own);
        if (result != ATTEMPT_AGAIN) {
            copy_diags(build->config, own, diags);
        }
        diag_list_free(own);
        if (result != ATTEMPT_AGAIN) {
            return result == ATTEMPT_OK;
        }
    }
    diag_error(diags, (struct diag_place){.file = build->config->path},
               "the route files keep changing while they are read");
    return false;
}
