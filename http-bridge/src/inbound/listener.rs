//! Connections: a bounded number of them, none idle for ever, and an end that a slow client cannot delay.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    extract::connect_info::Connected,
    serve::{IncomingStream, Listener},
};
use service_kit::Tasks;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};

/// A connection on which nothing moves for this long is closed.
const IDLE: Duration = Duration::from_secs(75);
/// How long requests under way may take when the service stops.
const LAST: Duration = Duration::from_secs(4);

/// Address of the client's end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer(pub(crate) SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Serve `app` on `listener` as a task of the service until it stops.
pub(crate) fn serve(
    name: &'static str,
    listener: TcpListener,
    app: Router,
    connections: usize,
    tasks: &Tasks,
) {
    let token = tasks.token();
    let bounded =
        Bounded { listener, free: Arc::new(Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS))) };
    tasks.spawn(name, async move {
        let app = app.into_make_service_with_connect_info::<Peer>();
        let server = axum::serve(bounded, app).with_graceful_shutdown(token.clone().cancelled_owned());
        let cut_off = async {
            token.cancelled().await;
            tokio::time::sleep(LAST).await;
        };
        tokio::select! {
            served = server => Ok(served?),
            () = cut_off => {
                tracing::warn!(listener = name, "requests that did not end in time were cut off");
                Ok(())
            }
        }
    });
}

/// Accepts no more than so many connections at once; the rest wait in the backlog of the system.
pub(crate) struct Bounded {
    listener: TcpListener,
    free: Arc<Semaphore>,
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        loop {
            // The semaphore is never closed; without a permit there is nothing to do but to ask again.
            let Ok(permit) = Arc::clone(&self.free).acquire_owned().await else { continue };
            // Listener::accept waits out a lack of file descriptors.
            let (stream, peer) = Listener::accept(&mut self.listener).await;
            // An answer that takes several packets would wait for the client's word on the first.
            let _slower = stream.set_nodelay(true);
            let idle = Box::pin(tokio::time::sleep(IDLE));
            return (Connection { stream, idle, _permit: permit }, peer);
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

pub(crate) struct Connection {
    stream: TcpStream,
    idle: Pin<Box<Sleep>>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn moved(&mut self) {
        self.idle.as_mut().reset(Instant::now() + IDLE);
    }

    /// What `poll` says, unless nothing has moved for too long.
    fn watch<T>(&mut self, poll: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        match poll {
            Poll::Ready(result) => {
                self.moved();
                Poll::Ready(result)
            }
            Poll::Pending => self.idle.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into())),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let poll = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watch(poll, cx)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(poll, cx)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
