/* A message by libstrophe, which profanity is built on.
 *     strophe HOST PORT ACCOUNT DOMAIN PASSWORD TO BODY
 * STROPHE_CERTIFICATE and STROPHE_KEY name files of a certificate of one's own; with STROPHE_DIRECT TLS begins with the first octet. */
#include <stdio.h>
#include <stdlib.h>
#include <strophe.h>

static char **words;
static int sent = 0;

static int trust(const xmpp_tlscert_t *cert, const char *fault) {
    (void)cert;
    fprintf(stderr, "certificate: %s\n", fault);
    return 1;
}

static void met(xmpp_conn_t *conn, xmpp_conn_event_t status, int error, xmpp_stream_error_t *fault, void *data) {
    xmpp_ctx_t *ctx = data;
    (void)error, (void)fault;
    if (status != XMPP_CONN_CONNECT) {
        xmpp_stop(ctx);
        return;
    }
    xmpp_stanza_t *message = xmpp_message_new(ctx, "chat", words[6], "m1");
    xmpp_message_set_body(message, words[7]);
    xmpp_send(conn, message);
    xmpp_stanza_release(message);
    sent = 1;
    xmpp_disconnect(conn);
}

int main(int argc, char **argv) {
    if (argc != 8) return 64;
    words = argv;
    char jid[512];
    snprintf(jid, sizeof jid, "%s@%s", argv[3], argv[4]);
    xmpp_initialize();
    xmpp_ctx_t *ctx = xmpp_ctx_new(NULL, xmpp_get_default_logger(XMPP_LEVEL_DEBUG));
    xmpp_conn_t *conn = xmpp_conn_new(ctx);
    xmpp_conn_set_flags(conn, getenv("STROPHE_DIRECT") ? XMPP_CONN_FLAG_LEGACY_SSL : XMPP_CONN_FLAG_MANDATORY_TLS);
    if (getenv("STROPHE_KEY")) xmpp_conn_set_client_cert(conn, getenv("STROPHE_CERTIFICATE"), getenv("STROPHE_KEY"));
    xmpp_conn_set_certfail_handler(conn, trust);
    xmpp_conn_set_jid(conn, jid);
    xmpp_conn_set_pass(conn, argv[5]);
    if (xmpp_connect_client(conn, argv[1], (unsigned short)atoi(argv[2]), met, ctx) == XMPP_EOK) xmpp_run(ctx);
    return sent ? 0 : 1;
}
