//! A stand-in for the agent: answers what it is told to, and remembers what it was asked.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use weft_model::api::{Attached, Error, ErrorKind, Reply, Request};

/// What to do with the next request.
pub(crate) enum Answer {
    Reply(Reply),
    Text(&'static str),
    /// Closes the connection.
    HangUp,
    /// Holds the connection open and says nothing.
    Silence,
}

pub(crate) struct Agent {
    answers: Sender<Answer>,
    requests: Receiver<Request>,
}

impl Agent {
    pub(crate) fn listen(socket: &Path) -> Agent {
        let listener = UnixListener::bind(socket).unwrap();
        let (answers, next) = channel();
        let (seen, requests) = channel();
        thread::spawn(move || {
            let mut held = Vec::new();
            for answer in next {
                let (stream, _) = listener.accept().unwrap();
                held.extend(serve(stream, answer, &seen));
            }
        });
        Agent { answers, requests }
    }

    pub(crate) fn will(&self, answer: Answer) {
        self.answers.send(answer).unwrap();
    }

    pub(crate) fn replies(&self, reply: Reply) {
        self.will(Answer::Reply(reply));
    }

    pub(crate) fn refuses(&self, kind: ErrorKind, message: &str) {
        self.replies(Reply::Error(Error::new(kind, message).hint("do something")));
    }

    /// The request that came, oldest first.
    pub(crate) fn asked(&self) -> Request {
        self.requests.recv_timeout(Duration::from_secs(5)).expect("the agent was asked")
    }

    pub(crate) fn was_left_alone(&self) -> bool {
        self.requests.try_recv().is_err()
    }
}

fn serve(mut stream: UnixStream, answer: Answer, seen: &Sender<Request>) -> Option<UnixStream> {
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    assert!(line.ends_with('\n'), "a request is a line: {line}");
    let _ = seen.send(serde_json::from_str(&line).expect("a request is JSON"));
    match answer {
        Answer::Reply(reply) => {
            let _ = writeln!(stream, "{}", serde_json::to_string(&reply).unwrap());
            None
        }
        Answer::Text(text) => {
            let _ = stream.write_all(text.as_bytes());
            None
        }
        Answer::HangUp => None,
        Answer::Silence => Some(stream),
    }
}

/// Nothing to say but that it is done.
pub(crate) fn done() -> Reply {
    Reply::Done { commands: Vec::new() }
}

/// A dual-stack interface.
pub(crate) fn attached(bridge: bool) -> Reply {
    let mut text = serde_json::json!({"attached": {
        "host_ifname": "weft1a2b3c4d", "host_mac": "02:77:65:66:74:01", "bridge": null,
        "mac": "02:42:0a:58:00:07", "mtu": 1450,
        "addresses": [
            {"address": "10.88.0.7/16", "gateway": "169.254.1.1"},
            {"address": "fd00:88::7/64", "gateway": "fe80::1"}
        ],
        "routes": [["0.0.0.0/0", "169.254.1.1"], ["::/0", "fe80::1"]]
    }});
    if bridge {
        text["attached"]["bridge"] = serde_json::json!(["weft0", "02:77:65:66:74:02"]);
    }
    let reply: Reply = serde_json::from_value(text).unwrap();
    assert!(matches!(&reply, Reply::Attached(a) if matches!(**a, Attached { .. })));
    reply
}
