//! `dns`, with a server of the test.

use std::{net::SocketAddr, sync::Arc};

use protocol::Status;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};

use super::{expect, metric, run};

type Answers = Arc<dyn Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync>;

/// Answers each question with packets, over UDP and, with the last of them, over TCP at the same port.
struct Server {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(
        udp: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static,
        tcp: Option<Answers>,
    ) -> Self {
        let (listener, socket) = loop {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            // The same port may be in use over UDP.
            if let Ok(socket) = UdpSocket::bind(listener.local_addr().unwrap()).await {
                break (listener, socket);
            }
        };
        let (address, mut tasks) = (socket.local_addr().unwrap(), JoinSet::new());
        tasks.spawn(async move {
            let mut buffer = vec![0; 1024];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                for packet in udp(&buffer[..length]) {
                    let _gone = socket.send_to(&packet, from).await;
                }
            }
        });
        tasks.spawn(async move {
            while let Some(tcp) = &tcp {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut question = vec![0; usize::from(stream.read_u16().await.unwrap())];
                stream.read_exact(&mut question).await.unwrap();
                for packet in tcp(&question) {
                    stream.write_u16(u16::try_from(packet.len()).unwrap()).await.unwrap();
                    stream.write_all(&packet).await.unwrap();
                }
            }
        });
        Self { address, _tasks: tasks }
    }

    fn with(&self, more: Value) -> Value {
        let mut with = json!({"name": "www.example.org", "server": self.address.to_string()});
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        with
    }
}

/// An answer with addresses.
fn answer(question: &[u8], flags: [u8; 2], addresses: &[[u8; 4]]) -> Vec<u8> {
    let mut packet = question.to_vec();
    packet[2..4].copy_from_slice(&flags);
    packet[7] = u8::try_from(addresses.len()).unwrap();
    for address in addresses {
        packet.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        packet.extend_from_slice(address);
    }
    packet
}

const FINE: [u8; 2] = [0x81, 0x80];

#[tokio::test]
async fn names_are_looked_up_at_the_given_server() {
    let server =
        Server::start(|question| vec![answer(question, FINE, &[[192, 0, 2, 1], [192, 0, 2, 2]])], None).await;
    let ran =
        expect("dns", server.with(json!({"expect": "192.0.2.2"})), Status::Ok, ": 192.0.2.1, 192.0.2.2")
            .await;
    assert_eq!((metric(&ran, "answers"), metric(&ran, "ttl")), (Some(2.0), Some(60.0)));
    assert_eq!(ran.finding.value.clone().unwrap().as_f64(), metric(&ran, "time"));
    let with = server.with(json!({"expect": ["192.0.2.1", "192.0.2.3"]}));
    expect("dns", with, Status::Critical, "\"192.0.2.3\" is not among them").await;
}

#[tokio::test]
async fn refusals_are_named() {
    for (code, said) in [(2, "SERVFAIL"), (3, "does not exist (NXDOMAIN)"), (5, "REFUSED"), (9, "the code 9")]
    {
        let server =
            Server::start(move |question| vec![answer(question, [0x81, 0x80 | code], &[])], None).await;
        expect("dns", server.with(json!({})), Status::Critical, said).await;
    }
    let server = Server::start(|question| vec![answer(question, FINE, &[])], None).await;
    expect("dns", server.with(json!({"type": "MX"})), Status::Critical, "the name has no MX record").await;
}

#[tokio::test]
async fn only_the_answer_to_the_question_counts() {
    let server = Server::start(
        |question| {
            let wrong = answer(question, FINE, &[[10, 6, 6, 6]]);
            let mut other_id = wrong.clone();
            other_id[0] ^= 0xff;
            let mut other_name = wrong.clone();
            other_name[13] = b'x';
            vec![other_id, other_name, question.to_vec(), vec![1], answer(question, FINE, &[[192, 0, 2, 1]])]
        },
        None,
    )
    .await;
    let ran = expect("dns", server.with(json!({})), Status::Ok, ": 192.0.2.1").await;
    assert!(!ran.finding.output.contains("10.6.6.6"));
    // Nothing but wrong ones is no answer.
    let server = Server::start(
        |question| {
            let mut other_id = answer(question, FINE, &[[10, 6, 6, 6]]);
            other_id[1] ^= 0xff;
            vec![other_id]
        },
        None,
    )
    .await;
    let ran = run("dns", server.with(json!({})), json!({"timeout_ms": 900})).await;
    assert_eq!(ran.finding.status, Status::Critical);
    let output = ran.finding.output;
    assert!(
        output.contains("no answer from 127.0.0.1:") && output.contains("to 3 questions, but 3 packets"),
        "{output}"
    );
    let server =
        Server::start(|question| vec![answer(question, FINE, &[[192, 0, 2, 1]])[..40].to_vec()], None).await;
    expect("dns", server.with(json!({})), Status::Critical, "cannot be understood").await;
}

#[tokio::test]
async fn what_is_too_long_for_a_packet_comes_over_tcp() {
    let cut = |question: &[u8]| vec![answer(question, [0x83, 0x80], &[])];
    let many: Vec<[u8; 4]> = (0..200).map(|last| [192, 0, 2, last]).collect();
    let full: Answers = Arc::new(move |question| vec![answer(question, FINE, &many)]);
    let server = Server::start(cut, Some(full)).await;
    let with = server.with(json!({"expect": "192.0.2.199"}));
    let ran = expect("dns", with, Status::Ok, "192.0.2.4 and 195 more").await;
    assert_eq!(metric(&ran, "answers"), Some(200.0));
    let server = Server::start(cut, Some(Arc::new(|_| Vec::new()))).await;
    expect("dns", server.with(json!({})), Status::Critical, "over TCP").await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_critical() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let with = json!({"name": "a.example", "server": address});
    let ran = run("dns", with.clone(), json!({"timeout_ms": 900})).await;
    assert!(ran.finding.output.ends_with("to 3 questions"), "{}", ran.finding.output);
    drop(socket);
    expect("dns", with, Status::Critical, "Connection refused").await;
}
