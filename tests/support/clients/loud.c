/* A message by libloudmouth, as mcabber and irssi-plugin-xmpp log in: STARTTLS required.
 *     loud HOST PORT ACCOUNT DOMAIN PASSWORD TO BODY */
#include <loudmouth/loudmouth.h>
#include <stdio.h>
#include <stdlib.h>

static LmSSLResponse trust(LmSSL *ssl, LmSSLStatus status, gpointer data) {
    (void)ssl, (void)data;
    fprintf(stderr, "certificate: %d\n", status);
    return LM_SSL_RESPONSE_CONTINUE;
}

static void must(gboolean done, const char *what, GError *error) {
    if (done) return;
    fprintf(stderr, "%s: %s\n", what, error ? error->message : "?");
    exit(1);
}

int main(int argc, char **argv) {
    GError *error = NULL;
    if (argc != 8) return 64;
    char *jid = g_strdup_printf("%s@%s", argv[3], argv[4]);
    LmConnection *connection = lm_connection_new(argv[1]);
    lm_connection_set_port(connection, (guint)atoi(argv[2]));
    lm_connection_set_jid(connection, jid);
    LmSSL *ssl = lm_ssl_new(NULL, trust, NULL, NULL);
    lm_ssl_use_starttls(ssl, TRUE, TRUE);
    lm_connection_set_ssl(connection, ssl);
    must(lm_connection_open_and_block(connection, &error), "open", error);
    must(lm_connection_authenticate_and_block(connection, argv[3], argv[5], "loud", &error), "login", error);
    LmMessage *message = lm_message_new(argv[6], LM_MESSAGE_TYPE_MESSAGE);
    lm_message_node_add_child(message->node, "body", argv[7]);
    must(lm_connection_send(connection, message, &error), "send", error);
    must(lm_connection_close(connection, &error), "close", error);
    return 0;
}
