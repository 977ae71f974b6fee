//! What is said about the checks of other hosts.

use crate::core::builtin::{
    Builtin, Kind, Net, Opt, Read,
    declare::{above, below, default, judged, option, required, shown},
};

const FAMILY: Opt = default("family", Kind::Text, "any", "addresses to use: any, 4 or 6");
const VERIFY: Opt = default(
    "verify",
    Kind::Flag,
    "true",
    "a certificate that is expired, of another name or of an unknown authority is critical",
);
const CA_FILE: Opt =
    option("ca_file", Kind::Text, "PEM file of the authorities to trust instead of the system's");
const SERVER_NAME: Opt =
    option("server_name", Kind::Text, "name that the certificate must be for, if not the host");

pub(in crate::core::builtin) const HTTP: Builtin = Builtin {
    name: "http",
    about: "A web page: status, content, the time of each phase, and its certificate",
    more: "Speaks HTTP/1.1, directly (no proxy). The first MiB of the content is read, and no more. When the server \
           cannot be reached, is too slow, or answers with another status or content, that is critical. A redirect to \
           another server gets neither the credentials nor the headers and content of the check.",
    options: &[
        required("url", Kind::Text, "http:// or https://, without credentials"),
        default("method", Kind::Text, "GET", "of the request, in capitals"),
        default("status", Kind::Texts, "200-399", "statuses that are fine, and ranges of them"),
        option("match", Kind::Text, "regular expression that must be found in the content"),
        option("no_match", Kind::Text, "regular expression that must not be found in the content"),
        option("headers", Kind::Texts, "further headers, each as \"Name: value\""),
        option("body", Kind::Text, "content to send"),
        default(
            "redirects",
            Kind::Number,
            "5",
            "most redirects to follow, up to 20; with 0 they are judged like pages",
        ),
        option(
            "auth_file",
            Kind::Text,
            "file NAME.auth with user:password on its first line, for basic authentication",
        ),
        VERIFY,
        CA_FILE,
        default(
            "certificate_days",
            Kind::Number,
            "7",
            "fewer days left of the certificate are a warning; 0 turns that off",
        ),
        FAMILY,
    ],
    metrics: &[
        judged("total", "ms", "from the start to the end, redirects included"),
        shown("dns", "ms", "looking up the name, on the last server"),
        shown("connect", "ms", "connecting"),
        shown("tls", "ms", "handshake"),
        shown("first_byte", "ms", "from the request to the first byte of the answer"),
        shown("size", "B", "content that was read"),
        shown("status", "", "of the answer"),
        shown("redirects", "", "that were followed"),
        shown("certificate_days", "d", "until the certificate expires"),
    ],
    defaults: above(3000.0, 10_000.0),
    read: Read::Net(Net::Http),
};

pub(in crate::core::builtin) const TCP: Builtin = Builtin {
    name: "tcp",
    about: "A TCP port: whether it answers, how fast, and with what",
    more: "A port that is closed or silent, and an answer in which the expected text is not found, are critical. In \
           what is sent, \\r, \\n, \\t, \\\\ and \\x41 stand for bytes. The first 64 KiB of the answer are looked at.",
    options: &[
        required("host", Kind::Text, "name or address"),
        required("port", Kind::Number, "from 1 to 65535"),
        option("send", Kind::Text, "what to send first"),
        option("expect", Kind::Text, "regular expression that must be found in the answer"),
        default("tls", Kind::Flag, "false", "speak TLS"),
        SERVER_NAME,
        VERIFY,
        CA_FILE,
        FAMILY,
    ],
    metrics: &[
        judged("connect", "ms", "connecting"),
        shown("tls", "ms", "handshake"),
        shown("response", "ms", "from what was sent to the expected text"),
    ],
    defaults: above(1000.0, 5000.0),
    read: Read::Net(Net::Tcp),
};

pub(in crate::core::builtin) const DNS: Builtin = Builtin {
    name: "dns",
    about: "A name server: whether it answers, how fast, and with what",
    more: "Asks one server and uses neither /etc/hosts nor the search list. A name that does not exist, one without \
           such records, an expected record that is missing, and a server that fails or is silent are critical. Asks \
           over UDP, up to three times, and over TCP where the answer is too long.",
    options: &[
        required("name", Kind::Text, "for PTR an address will do"),
        default("type", Kind::Text, "A", "A, AAAA, CNAME, MX, NS, PTR, SOA or TXT"),
        option(
            "server",
            Kind::Text,
            "address, with or without a port; the first of /etc/resolv.conf when left out",
        ),
        option(
            "expect",
            Kind::Texts,
            "records that must be there: each a whole one or a word of one; of TXT any part",
        ),
    ],
    metrics: &[
        judged("time", "ms", "from the first question to the answer"),
        shown("answers", "", "records of the type"),
        shown("ttl", "s", "the shortest time that one of them may be kept"),
    ],
    defaults: above(1000.0, 5000.0),
    read: Read::Net(Net::Dns),
};

pub(in crate::core::builtin) const TLS: Builtin = Builtin {
    name: "tls",
    about: "A TLS server: when its certificate expires, and whether clients accept it",
    more: "The authorities of the system are read once \
           an hour. A certificate that stands in ca_file itself is trusted too. Revocation is not looked up.",
    options: &[
        required("host", Kind::Text, "name or address"),
        option("port", Kind::Number, "443, or that of starttls, when left out"),
        SERVER_NAME,
        option("starttls", Kind::Text, "begin with smtp, imap or pop3"),
        VERIFY,
        CA_FILE,
        FAMILY,
    ],
    metrics: &[
        judged("days_left", "d", "until the certificate expires; below 0 afterwards"),
        shown("trusted", "", "1 when it is valid, for this name, and from an authority that is trusted"),
        shown("handshake", "ms", "of TLS"),
    ],
    defaults: below(21.0, 7.0),
    read: Read::Net(Net::Tls),
};

pub(in crate::core::builtin) const PING: Builtin = Builtin {
    name: "ping",
    about: "ICMP echo: lost packets, and the time that they take",
    more: "Needs no rights where the group of the agent is in net.ipv4.ping_group_range, and CAP_NET_RAW elsewhere; \
           without either it is unknown.",
    options: &[
        required("host", Kind::Text, "name or address"),
        default("count", Kind::Number, "5", "packets, up to 100"),
        default("interval", Kind::Duration, "200ms", "between packets"),
        default("wait", Kind::Duration, "2s", "for the answer to the last one"),
        option("rtt_warning", Kind::Number, "a higher average, in ms, is a warning"),
        option("rtt_critical", Kind::Number, "a higher average, in ms, is critical"),
        FAMILY,
    ],
    metrics: &[
        judged("loss", "%", "packets without an answer"),
        shown("rtt_avg", "ms", "from a packet to its answer, on average"),
        shown("rtt_min", "ms", "the fastest"),
        shown("rtt_max", "ms", "the slowest"),
    ],
    defaults: above(20.0, 60.0),
    read: Read::Net(Net::Ping),
};
