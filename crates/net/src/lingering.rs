//! The stream of a connection: it holds the connection's place, and is closed in a way that lets the client
//! read the last response.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio_rustls::server::TlsStream;

use crate::gate::ConnectionPermit;
use crate::outgoing::Socket;

/// How long input is discarded after the response has been sent. Closing a socket with unread input resets the
/// connection, and the response is lost.
const LINGER: Duration = Duration::from_secs(2);
/// How much input is discarded at most, in bytes.
const LINGER_BYTES_MAX: u64 = 64 << 20;

pub(crate) struct Lingering {
    stream: Option<TlsStream<Socket>>,
    permit: Arc<ConnectionPermit>,
}

impl Lingering {
    pub(crate) fn new(stream: TlsStream<Socket>, permit: Arc<ConnectionPermit>) -> Self {
        Self { stream: Some(stream), permit }
    }

    fn stream(&mut self) -> Pin<&mut TlsStream<Socket>> {
        Pin::new(self.stream.as_mut().expect("it is taken by `drop` only"))
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        if self.permit.has_stalled()
            && let Some(stream) = &self.stream
        {
            stream.get_ref().0.reset_on_close();
            return;
        }
        let Some(stream) = self.stream.take().filter(|_| self.permit.has_unread()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let permit = self.permit.clone();
            runtime.spawn(async move {
                let (stream, _) = stream.into_inner();
                let mut rest = stream.take(LINGER_BYTES_MAX);
                let mut nowhere = tokio::io::sink();
                let read = tokio::io::copy(&mut rest, &mut nowhere);
                let displaced = permit.activity.displaced.cancelled();
                tokio::select! {
                    _ = tokio::time::timeout(LINGER, read) => {}
                    () = displaced => {}
                }
            });
        }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.as_ref().is_some_and(AsyncWrite::is_write_vectored)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
