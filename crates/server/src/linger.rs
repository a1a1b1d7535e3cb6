//! Closes a connection so that the client still reads the last answer.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

/// How long a client may continue to send after its last answer: in total, and between two pieces.
pub(crate) const LINGER: Duration = Duration::from_secs(30);
pub(crate) const LINGER_PAUSE: Duration = Duration::from_secs(2);

/// Closes a connection so that the client receives the last answer. An answer may be sent before
/// the request was read completely (413). Closing a socket with unread bytes sends a reset, which
/// can overtake the answer. So this shuts down the sending side first and reads for a while.
pub(crate) async fn close(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let to_its_end = async {
        stream.shutdown().await?;
        let mut unwanted = vec![0; 16 << 10];
        while timeout(LINGER_PAUSE, stream.read(&mut unwanted))
            .await
            .is_ok_and(|read| read.is_ok_and(|bytes| bytes > 0))
        {}
        Ok::<_, std::io::Error>(())
    };
    let _however_it_ends = timeout(LINGER, to_its_end).await;
}
