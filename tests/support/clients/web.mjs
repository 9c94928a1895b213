// Clients over WebSocket as people build them: strophe.js and xmpp.js, under node.
//
// web.mjs MODULES PROGRAM ADDRESS JID PASSWORD TO WORD...: logs in, sends the first word to somebody, and waits for the same word back
// with "back: " before it. With more words xmpp.js then loses its connection right behind the second, comes back to the same session
// (XEP-0198 5), and says the third. The last line is JSON: all that was heard.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, program, address, jid, password, to, ...words] = process.argv.slice(2);
const require = createRequire(pathToFileURL(modules + "/"));
const WebSocket = require("ws");
const alpn = process.env.WEB_ALPN ? { ALPNProtocols: [process.env.WEB_ALPN] } : {};
// None of the libraries tells what is wrong with a connection.
class Told extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, alpn);
    this.on("error", (error) => console.log("WebSocket:", error));
  }
}
globalThis.WebSocket = Told;

const within = (what, promise, time = 30000) =>
  Promise.race([
    promise,
    new Promise((_, no) => setTimeout(() => no(new Error(`${what}: not within ${time} ms`)), time).unref()),
  ]);
const done = (report) => {
  console.log("RESULT " + JSON.stringify(report));
  process.exit(0);
};
const heard = [];
const waiting = new Map();
const hear = (body) => {
  if (!body) return;
  heard.push(body);
  waiting.get(body)?.();
};
const back = (word) => {
  const body = "back: " + word;
  const promise = new Promise((yes) => (heard.includes(body) ? yes() : waiting.set(body, yes)));
  return within(`"${body}"`, promise);
};

async function strophe() {
  const { Strophe, $pres, $msg } = require("strophe.js");
  globalThis.WebSocket = Told; // It has set its own.
  const connection = new Strophe.Connection(address);
  let gone;
  const closed = new Promise((yes) => (gone = yes));
  connection.addHandler((stanza) => {
    hear(stanza.getElementsByTagName("body")[0]?.textContent);
    return true;
  }, null, "message");
  const connected = new Promise((yes, no) => {
    connection.connect(jid, password, (status) => {
      if (status === Strophe.Status.CONNECTED) yes();
      if (status === Strophe.Status.DISCONNECTED) gone();
      if (status === Strophe.Status.CONNFAIL || status === Strophe.Status.AUTHFAIL) no(new Error("status " + status));
    });
  });
  await within("a login", connected);
  connection.send($pres().tree());
  connection.send($msg({ to, type: "chat" }).c("body").t(words[0]).tree());
  await back(words[0]);
  connection.disconnect("done");
  await within("the end", closed);
  done({ jid: connection.jid, heard });
}

async function xmppjs() {
  const { client, xml } = await import(pathToFileURL(require.resolve("@xmpp/client")));
  const [username, domain] = jid.split("@");
  const xmpp = client({ service: address, domain, username, password, resource: "web" });
  // The cut is one of them.
  xmpp.on("error", (error) => console.log("xmpp.js:", String(error)));
  xmpp.on("stanza", (stanza) => stanza.is("message") && hear(stanza.getChildText("body")));
  const say = (word) => xmpp.send(xml("message", { to, type: "chat" }, xml("body", {}, word)));
  const bound = await within("a login", xmpp.start());
  await xmpp.send(xml("presence"));
  await say(words[0]);
  await back(words[0]);
  if (words.length > 1) {
    const resumed = new Promise((yes) => xmpp.streamManagement.on("resumed", yes));
    await say(words[1]);
    // Without a word, as when a network goes.
    xmpp.socket.socket.terminate();
    await within("a resumption", resumed);
    await back(words[1]);
    await say(words[2]);
    await back(words[2]);
  }
  await within("the end", xmpp.stop());
  done({ jid: String(bound), heard });
}

await { strophe, xmppjs }[program]();
