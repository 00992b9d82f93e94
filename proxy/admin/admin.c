#include "proxy/admin/admin.h"

#include <fcntl.h>
#include <microhttpd.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "proxy/admin/exposition.h"
#include "proxy/admin/host.h"
#include "proxy/admin/metrics.h"
#include "proxy/admin/page.h"
#include "proxy/admin/page_json.h"
#include "proxy/admin/query.h"
#include "proxy/admin/status_page.h"

#define BACKLOG     16
#define CONNECTIONS 32                /* at once; one more, and the oldest makes way */
#define PLACES      (CONNECTIONS + 8) /* until it has */
#define IDLE        5                 /* seconds that one may say and take nothing */
#define WHOLE       10                /* seconds that one may take for its request and our answer */
#define REQUEST_MAX (8 * 1024)        /* octets of a request */
#define PATIENCE    2                 /* seconds to wait for a snapshot */

/* ---- the source ---- */

struct admin_source {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    void (*want)(void *context);
    void *context;
    struct snapshot_wish wish;
    struct snapshot *fresh; /* given, and not taken yet */
    bool given;             /* also when there was no memory for it */
};

struct admin_source *admin_source_new(void (*want)(void *context), void *context)
{
    struct admin_source *source = calloc(1, sizeof *source);
    pthread_condattr_t attributes;
    if (source == NULL) {
        return NULL;
    }
    source->want = want;
    source->context = context;
    pthread_mutex_init(&source->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&source->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    return source;
}

void admin_source_free(struct admin_source *source)
{
    if (source != NULL) {
        snapshot_free(source->fresh);
        pthread_cond_destroy(&source->changed);
        pthread_mutex_destroy(&source->lock);
        free(source);
    }
}

void admin_source_wish(struct admin_source *source, struct snapshot_wish *out)
{
    pthread_mutex_lock(&source->lock);
    *out = source->wish;
    pthread_mutex_unlock(&source->lock);
}

void admin_source_give(struct admin_source *source, struct snapshot *snapshot)
{
    pthread_mutex_lock(&source->lock);
    snapshot_free(source->fresh);
    source->fresh = snapshot;
    source->given = true;
    pthread_cond_broadcast(&source->changed);
    pthread_mutex_unlock(&source->lock);
}

/* ---- the server ---- */

struct admin {
    struct MHD_Daemon *http;
    struct admin_source *source;
    bool closing; /* under the source's lock */
    char policy[STATUS_PAGE_POLICY];
    /* Of the server's own thread: */
    struct {
        int fd; /* -1: a free place */
        time_t since;
    } open[PLACES];
};

static time_t seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* Whether what was given is for this wish: another server, of a reload, may wish for something else
 * meanwhile, and who has asked before may have given up. */
static bool is_wished(const struct snapshot *snapshot, const struct snapshot_wish *wish)
{
    return snapshot == NULL || (snapshot->wish.page == wish->page &&
                                strcmp(snapshot->wish.address, wish->address) == 0);
}

/* One made after the call. NULL: nobody answers, there is no memory, or it is over. */
static struct snapshot *ask(struct admin *admin, const struct snapshot_wish *wish)
{
    struct admin_source *source = admin->source;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += PATIENCE;
    pthread_mutex_lock(&source->lock);
    snapshot_free(source->fresh); /* who asked for it has given up */
    source->fresh = NULL;
    source->given = false;
    source->wish = *wish;
    source->want(source->context);
    int error = 0;
    while ((!source->given || !is_wished(source->fresh, wish)) && !admin->closing && error == 0) {
        error = pthread_cond_timedwait(&source->changed, &source->lock, &until);
    }
    struct snapshot *snapshot = NULL;
    if (source->fresh != NULL && is_wished(source->fresh, wish)) {
        snapshot = source->fresh;
        source->fresh = NULL;
    }
    pthread_mutex_unlock(&source->lock);
    return snapshot;
}

/* ---- pages ---- */

void page_body(struct page *page, unsigned status, const char *type, char *body)
{
    page->status = status;
    page->type = type;
    page->body = body;
    page->size = body != NULL ? strlen(body) : 0;
}

void page_text(struct page *page, unsigned status, const char *text)
{
    page_body(page, status, PAGE_TEXT, strdup(text));
}

static void show_status_page(const char *policy, struct page *page)
{
    const struct span html = status_page_html();
    page_body(page, MHD_HTTP_OK, STATUS_PAGE_TYPE, span_dup(html));
    page->policy = policy;
}

static void show_metrics(struct snapshot *snapshot, struct page *page)
{
    page->status = MHD_HTTP_OK;
    page->type = EXPOSITION_TYPE;
    page->body = metrics_text(snapshot, &page->size);
}

static void show_status(struct snapshot *snapshot, struct page *page)
{
    page_body(page, MHD_HTTP_OK, PAGE_JSON, snapshot->status);
    snapshot->status = NULL;
}

static void show_page(struct snapshot *snapshot, struct page *page)
{
    page_body(page, MHD_HTTP_OK, PAGE_JSON, page_json(snapshot));
}

static void show_route(struct snapshot *snapshot, struct page *page)
{
    if (snapshot->is_address || snapshot->route == NULL) {
        page_body(page, MHD_HTTP_OK, PAGE_JSON, snapshot->route);
        snapshot->route = NULL;
    } else {
        page_body(page, MHD_HTTP_BAD_REQUEST, PAGE_JSON, page_json_error(snapshot->route));
    }
}

static void show_health(struct snapshot *snapshot, struct page *page)
{
    page_text(page, snapshot->is_serving ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
              snapshot->health);
}

static void show_ready(struct snapshot *snapshot, struct page *page)
{
    if (snapshot->is_ready) {
        page_text(page, MHD_HTTP_OK, "ready\n");
    } else {
        page_text(page, MHD_HTTP_SERVICE_UNAVAILABLE, "not ready\n");
    }
}

enum needs { NEEDS_NOTHING, NEEDS_SNAPSHOT, NEEDS_PAGE, NEEDS_ROUTE };

static const struct choice {
    const char *path;
    enum needs needs; /* with nothing it is the status page */
    void (*show)(struct snapshot *snapshot, struct page *page);
} choices[] = {
    {"/", NEEDS_NOTHING, NULL},
    {"/metrics", NEEDS_SNAPSHOT, show_metrics},
    {"/status.json", NEEDS_SNAPSHOT, show_status},
    {"/page.json", NEEDS_PAGE, show_page},
    {"/route.json", NEEDS_ROUTE, show_route},
    {"/healthz", NEEDS_SNAPSHOT, show_health},
    {"/readyz", NEEDS_SNAPSHOT, show_ready},
};

static const struct choice *choice_of(const char *path)
{
    for (size_t i = 0; i < sizeof choices / sizeof choices[0]; i++) {
        if (strcmp(path, choices[i].path) == 0) {
            return &choices[i];
        }
    }
    return NULL;
}

/* The address that is asked for. False: the page says what is wrong with it. */
static bool read_wish(struct MHD_Connection *connection, const struct choice *choice,
                      struct snapshot_wish *wish, struct page *page)
{
    wish->page = choice->needs == NEEDS_PAGE;
    if (choice->needs != NEEDS_ROUTE) {
        return true;
    }
    const char *text = MHD_lookup_connection_value(connection, MHD_GET_ARGUMENT_KIND, "address");
    const char *wrong = query_address(text != NULL ? text : "", wish->address);
    if (wrong != NULL) {
        page_body(page, MHD_HTTP_BAD_REQUEST, PAGE_JSON, page_json_error(wrong));
    }
    return wrong == NULL;
}

static void make_page(struct admin *admin, struct MHD_Connection *connection, const char *path,
                      struct page *page)
{
    const struct choice *choice = choice_of(path);
    struct snapshot_wish wish = {0};
    if (choice == NULL) {
        page_text(page, MHD_HTTP_NOT_FOUND, "there is no such page; / names those there are\n");
    } else if (choice->needs == NEEDS_NOTHING) {
        show_status_page(admin->policy, page);
    } else if (read_wish(connection, choice, &wish, page)) {
        struct snapshot *snapshot = ask(admin, &wish);
        if (snapshot == NULL) {
            page_text(page, MHD_HTTP_SERVICE_UNAVAILABLE, "no answer from splitmx\n");
        } else {
            choice->show(snapshot, page);
        }
        snapshot_free(snapshot);
    }
}

/* ---- HTTP ---- */

/* Nothing here is for other sites, for a cache, or to be taken for something else. A connection is
 * for one request, so none can be kept. */
static void add_headers(struct MHD_Response *response, const struct page *page)
{
    static const char *const headers[][2] = {
        {"Cache-Control", "no-store"},
        {"Connection", "close"},
        {"Cross-Origin-Resource-Policy", "same-origin"},
        {"Referrer-Policy", "no-referrer"},
        {"X-Content-Type-Options", "nosniff"},
    };
    const char *policy =
        page->policy != NULL ? page->policy : "default-src 'none'; frame-ancestors 'none'";
    MHD_add_response_header(response, "Content-Type", page->type);
    MHD_add_response_header(response, "Content-Security-Policy", policy);
    for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++) {
        MHD_add_response_header(response, headers[i][0], headers[i][1]);
    }
}

/* MHD_NO, without memory too: the connection is closed. */
static enum MHD_Result answer(struct MHD_Connection *connection, const struct page *page)
{
    if (page->body == NULL) {
        return MHD_NO;
    }
    struct MHD_Response *response =
        MHD_create_response_from_buffer(page->size, page->body, MHD_RESPMEM_MUST_FREE);
    if (response == NULL) {
        free(page->body);
        return MHD_NO;
    }
    add_headers(response, page);
    if (page->status == MHD_HTTP_METHOD_NOT_ALLOWED) {
        MHD_add_response_header(response, "Allow", "GET, HEAD");
    }
    const enum MHD_Result result = MHD_queue_response(connection, page->status, response);
    MHD_destroy_response(response);
    return result;
}

static bool has_header(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name) != NULL;
}

static bool is_host_fine(struct MHD_Connection *connection)
{
    struct sockaddr_storage at = {0};
    socklen_t length = sizeof at;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info != NULL && getsockname(info->connect_fd, (struct sockaddr *)&at, &length) == 0 &&
           host_is_fine((struct sockaddr *)&at,
                        MHD_lookup_connection_value(connection, MHD_HEADER_KIND, "Host"));
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection,
                                  const char *path, const char *method, const char *version,
                                  const char *data, size_t *size, void **request)
{
    struct page page = {0};
    (void)version;
    (void)data;
    (void)size;
    (void)request;
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
        page_text(&page, MHD_HTTP_METHOD_NOT_ALLOWED, "this server is read only\n");
    } else if (has_header(connection, "Content-Length") ||
               has_header(connection, "Transfer-Encoding")) {
        page_text(&page, MHD_HTTP_BAD_REQUEST, "a request here has no body\n");
    } else if (!is_host_fine(connection)) {
        page_text(&page, MHD_HTTP_FORBIDDEN,
                  "this server is asked for as 127.0.0.1, as localhost or by another address, not "
                  "by a name that others have given it\n");
    } else {
        make_page(context, connection, path, &page);
    }
    return answer(connection, &page);
}

/* Who takes its time for long enough makes way for others, and where all places are taken the
 * oldest does: a byte now and then would keep a place for ever. */
static enum MHD_Result on_accept(void *context, const struct sockaddr *address, socklen_t length)
{
    struct admin *admin = context;
    const time_t now = seconds();
    size_t count = 0, oldest = 0;
    (void)address;
    (void)length;
    for (size_t i = 0; i < PLACES; i++) {
        if (admin->open[i].fd < 0) {
            continue;
        }
        count++;
        if (admin->open[oldest].fd < 0 || admin->open[i].since < admin->open[oldest].since) {
            oldest = i;
        }
        if (now - admin->open[i].since > WHOLE) {
            shutdown(admin->open[i].fd, SHUT_RDWR);
        }
    }
    if (count >= CONNECTIONS) {
        shutdown(admin->open[oldest].fd, SHUT_RDWR);
    }
    return MHD_YES;
}

static void on_connection(void *context, struct MHD_Connection *connection, void **socket,
                          enum MHD_ConnectionNotificationCode what)
{
    struct admin *admin = context;
    (void)socket;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    const int fd = info != NULL ? info->connect_fd : -1;
    const int before = what == MHD_CONNECTION_NOTIFY_STARTED ? -1 : fd;
    for (size_t i = 0; fd >= 0 && i < PLACES; i++) {
        if (admin->open[i].fd == before) {
            admin->open[i].fd = before < 0 ? fd : -1;
            admin->open[i].since = seconds();
            return;
        }
    }
}

/* ---- life ---- */

/* No page's path has anything to decode, and %00 would end what is compared; the address is decoded
 * by query_address, which sees that. */
static size_t leave_as_it_is(void *context, struct MHD_Connection *connection, char *text)
{
    (void)context;
    (void)connection;
    return strlen(text);
}

static struct MHD_Daemon *start_thread(struct admin *admin, int fd)
{
    sigset_t all, before;
    sigfillset(&all); /* signals are the main thread's; the new one has what we have now */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    struct MHD_Daemon *http = MHD_start_daemon(
        MHD_USE_EPOLL_INTERNAL_THREAD | MHD_USE_ITC, 0, on_accept, admin, on_request, admin,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, (unsigned)PLACES,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)REQUEST_MAX, MHD_OPTION_STRICT_FOR_CLIENT, 1, MHD_OPTION_NOTIFY_CONNECTION,
        on_connection, admin, MHD_OPTION_UNESCAPE_CALLBACK, leave_as_it_is, admin, MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return http;
}

/* On some ways to fail the library closes the socket, on others it does not; its number may be
 * another's already. */
static void close_if_open(int fd, const struct stat *was)
{
    struct stat now;
    if (fstat(fd, &now) == 0 && now.st_dev == was->st_dev && now.st_ino == was->st_ino) {
        close(fd);
    }
}

struct admin *admin_start(int fd, struct admin_source *source)
{
    struct stat socket = {0};
    const int flags = fcntl(fd, F_GETFL);
    struct admin *admin = calloc(1, sizeof *admin);
    fstat(fd, &socket);
    if (admin == NULL || !status_page_policy(admin->policy)) {
        goto fail;
    }
    admin->source = source;
    for (size_t i = 0; i < PLACES; i++) {
        admin->open[i].fd = -1;
    }
    /* One that a service manager has passed may block. */
    if (flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 && listen(fd, BACKLOG) == 0) {
        admin->http = start_thread(admin, fd);
    }
    if (admin->http != NULL) {
        return admin;
    }
fail:
    close_if_open(fd, &socket);
    free(admin);
    return NULL;
}

void admin_stop(struct admin *admin)
{
    if (admin == NULL) {
        return;
    }
    pthread_mutex_lock(&admin->source->lock);
    admin->closing = true;
    pthread_cond_broadcast(&admin->source->changed);
    pthread_mutex_unlock(&admin->source->lock);
    MHD_stop_daemon(admin->http);
    free(admin);
}
