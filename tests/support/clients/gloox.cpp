// A message by gloox.
//     gloox HOST PORT ACCOUNT DOMAIN PASSWORD TO BODY
#include <cstdio>
#include <cstdlib>
#include <string>

#include <gloox/client.h>
#include <gloox/connectionlistener.h>
#include <gloox/loghandler.h>
#include <gloox/message.h>

using namespace gloox;

class Sender : public ConnectionListener, LogHandler {
public:
    explicit Sender(char **words) : words_(words), client_(JID(std::string(words[3]) + "@" + words[4]), words[5], std::atoi(words[2])) {
        client_.setServer(words[1]);
        client_.setTls(TLSRequired);
        client_.registerConnectionListener(this);
        client_.logInstance().registerLogHandler(LogLevelDebug, LogAreaAll, this);
    }

    bool run() {
        client_.connect(true);
        return sent_;
    }

    void onConnect() override {
        client_.send(Message(Message::Chat, JID(words_[6]), words_[7]));
        sent_ = true;
        client_.disconnect();
    }

    void onDisconnect(ConnectionError error) override { std::fprintf(stderr, "ended: %d\n", error); }

    bool onTLSConnect(const CertInfo &info) override {
        std::fprintf(stderr, "certificate: %d\n", info.status);
        return true;
    }

    void handleLog(LogLevel, LogArea, const std::string &line) override { std::fprintf(stderr, "%s\n", line.c_str()); }

private:
    char **words_;
    Client client_;
    bool sent_ = false;
};

int main(int argc, char **argv) {
    if (argc != 8) return 64;
    return Sender(argv).run() ? 0 : 1;
}
