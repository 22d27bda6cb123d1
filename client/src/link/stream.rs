//! The bytes of a connection, counted: whether any have moved lately, whether any left since something was to be sent, and whether
//! the other side has hung up.
//!
//! The counts answer what replies cannot. Bytes that move show that a payload is under way, however slow; none that left show that
//! a command has never reached anybody, so it may be sent again whatever it does.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use redis::io::tcp::TcpSettings;
use redis::io::tcp::socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// After so long a silence it is asked, before anything is written, whether the other side has hung up. The runtime may not have
/// looked meanwhile, and what is written then is lost.
const SILENCE: Duration = Duration::from_millis(5);

/// What is known of a connection's bytes.
pub(crate) struct Traffic {
    since: Instant,
    read: AtomicU64,
    written: AtomicU64,
    last_us: AtomicU64,
    closed: AtomicBool,
}

impl Traffic {
    pub(crate) fn new() -> Self {
        let [read, written, last_us] = [(); 3].map(|()| AtomicU64::new(0));
        Self { since: Instant::now(), read, written, last_us, closed: AtomicBool::new(false) }
    }

    /// How many bytes were read.
    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Acquire)
    }

    /// How many bytes were written.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// When any were read or written last.
    pub(crate) fn last(&self) -> Instant {
        self.since + Duration::from_micros(self.last_us.load(Ordering::Acquire))
    }

    /// Has either side hung up?
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn note(&self) {
        let now = u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.last_us.store(now, Ordering::Release);
    }

    fn note_written(&self, result: &io::Result<usize>) {
        match result {
            Ok(count) => {
                self.written.fetch_add(*count as u64, Ordering::AcqRel);
                self.note();
            }
            Err(_) => self.close(),
        }
    }
}

/// What can be asked whether the other side has hung up.
pub(crate) trait Socket: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn has_hung_up(&self) -> bool;
}

impl Socket for TcpStream {
    fn has_hung_up(&self) -> bool {
        hung_up(&SockRef::from(self))
    }
}

#[cfg(unix)]
impl Socket for tokio::net::UnixStream {
    fn has_hung_up(&self) -> bool {
        hung_up(&SockRef::from(self))
    }
}

/// Its end can be read.
fn hung_up(socket: &SockRef<'_>) -> bool {
    match socket.peek(&mut [MaybeUninit::uninit()]) {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

/// A connection whose bytes are counted.
pub(crate) struct Counted<S> {
    stream: S,
    traffic: Arc<Traffic>,
}

impl<S> Counted<S> {
    pub(crate) fn new(stream: S, traffic: &Arc<Traffic>) -> Self {
        Self { stream, traffic: Arc::clone(traffic) }
    }
}

impl<S: Socket> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        match &polled {
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                self.traffic.read.fetch_add((buffer.filled().len() - before) as u64, Ordering::AcqRel);
                self.traffic.note();
            }
            Poll::Ready(_) => self.traffic.close(),
            Poll::Pending => {}
        }
        polled
    }
}

impl<S: Socket> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.traffic.last().elapsed() > SILENCE && self.stream.has_hung_up() {
            self.traffic.close();
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        if let Poll::Ready(result) = &polled {
            self.traffic.note_written(result);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Connects, with the settings.
pub(crate) async fn connect_tcp(host: &str, port: u16, settings: &TcpSettings) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(settings.nodelay())?;
    let socket = SockRef::from(&stream);
    if let Some(keepalive) = settings.keepalive() {
        socket.set_tcp_keepalive(keepalive)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(settings.user_timeout())?;
    Ok(stream)
}
