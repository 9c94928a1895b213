// Clients over WebSocket as people build them: strophe.js and xmpp.js, under node.
//
// web.mjs MODULES PROGRAM ADDRESS JID PASSWORD TO WORD: logs in, sends the word to somebody, and waits for the same word back with
// "back: " before it. xmpp.js then loses its connection, and comes back to the same session (XEP-0198 5). The last line is JSON.
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [modules, program, address, jid, password, to, word] = process.argv.slice(2);
const require = createRequire(pathToFileURL(modules + "/"));
globalThis.WebSocket = require("ws");
const wait = (what, time = 30000) =>
  new Promise((_, no) => setTimeout(() => no(new Error(`${what}: not within ${time} ms`)), time).unref());
const done = (report) => {
  console.log("RESULT " + JSON.stringify(report));
  process.exit(0);
};

async function strophe() {
  const { Strophe, $pres, $msg } = require("strophe.js");
  const connection = new Strophe.Connection(address);
  const statuses = [];
  const back = new Promise((yes) => {
    connection.addHandler((stanza) => {
      const body = stanza.getElementsByTagName("body")[0];
      if (body && body.textContent === "back: " + word) yes(stanza.getAttribute("from"));
      return true;
    }, null, "message");
  });
  const connected = new Promise((yes, no) => {
    connection.connect(jid, password, (status) => {
      statuses.push(status);
      if (status === Strophe.Status.CONNECTED) yes();
      if (status === Strophe.Status.CONNFAIL || status === Strophe.Status.AUTHFAIL) no(new Error("status " + status));
    });
  });
  await Promise.race([connected, wait("a login")]);
  connection.send($pres().tree());
  connection.send($msg({ to, type: "chat" }).c("body").t(word).tree());
  const from = await Promise.race([back, wait("the answer")]);
  const closed = new Promise((yes) => {
    const before = connection._changeConnectStatus.bind(connection);
    connection._changeConnectStatus = (status, ...more) => {
      before(status, ...more);
      if (status === Strophe.Status.DISCONNECTED) yes();
    };
  });
  connection.disconnect("done");
  await Promise.race([closed, wait("the end")]);
  done({ jid: connection.jid, from });
}

async function xmppjs() {
  const { client, xml } = await import(pathToFileURL(require.resolve("@xmpp/client")));
  const [username, domain] = jid.split("@");
  const xmpp = client({ service: address, domain, username, password, resource: "web" });
  const errors = [];
  xmpp.on("error", (error) => errors.push(String(error)));
  const back = (what) =>
    new Promise((yes) => {
      xmpp.on("stanza", (stanza) => {
        if (stanza.is("message") && stanza.getChildText("body") === what) yes(stanza.attrs.from);
      });
    });
  const heard = back("back: " + word);
  const address_ = await Promise.race([xmpp.start(), wait("a login")]);
  await xmpp.send(xml("presence"));
  await xmpp.send(xml("message", { to, type: "chat" }, xml("body", {}, word)));
  await Promise.race([heard, wait("the answer")]);
  const again = back("back: " + word + " again");
  const resumed = new Promise((yes) => xmpp.streamManagement.on("resumed", yes));
  // Without a word, as when a network goes.
  xmpp.socket.socket.terminate();
  await Promise.race([resumed, wait("a resumption")]);
  await xmpp.send(xml("message", { to, type: "chat" }, xml("body", {}, word + " again")));
  const from = await Promise.race([again, wait("the answer behind the resumption")]);
  await Promise.race([xmpp.stop(), wait("the end")]);
  done({ jid: String(address_), from, errors });
}

await { strophe, xmppjs }[program]();
