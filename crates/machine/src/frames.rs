//! What passes between a command and a supervisor about a task, behind the request's line: frames of
//! a kind, a length and so many bytes.
//!
//! Neither side trusts the other's lengths: a frame holds at most [`LARGEST`] bytes.

use std::io;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::record::Exit;
use crate::terminal::{Input, LARGEST_PIECE, Shown};

/// The most bytes of a frame, in bytes.
const LARGEST: usize = LARGEST_PIECE;

/// How a task came to its end, as a supervisor tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Finish {
    /// Its process has ended.
    Exited(Exit),
    /// It is left to itself.
    Left,
    /// It could not be begun: why, and 126 or 127 where a shell would return that, else 0.
    Failed(String, u8),
    /// The VM's workload does not run yet, or no longer.
    NotRunning,
    /// There are as many tasks already as there can be.
    TooMany(usize),
    /// The guest does not keep to the protocol.
    Confused(String),
}

/// A frame from a supervisor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// The task has begun; its number.
    Started(u32),
    /// Something was written.
    Shown(Shown),
    /// It is over: the last frame.
    Finished(Finish),
}

const INPUT: u8 = b'i';
const END_OF_INPUT: u8 = b'e';
const RESIZE: u8 = b'r';
const STARTED: u8 = b'S';
const STDOUT: u8 = b'O';
const STDERR: u8 = b'E';
const FINISHED: u8 = b'F';

/// Writes what a user does.
pub(crate) async fn write_input<W: AsyncWrite + Unpin>(
    writer: &mut W,
    input: &Input,
) -> io::Result<()> {
    match input {
        Input::Data(data) => write(writer, INPUT, data).await,
        Input::End => write(writer, END_OF_INPUT, &[]).await,
        Input::Resize(rows, columns) => {
            let ([a, b], [c, d]) = (rows.to_be_bytes(), columns.to_be_bytes());
            write(writer, RESIZE, &[a, b, c, d]).await
        }
    }
}

/// Reads what a user does; none at the connection's end.
pub(crate) async fn read_input<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Option<Input>> {
    let Some((kind, bytes)) = read(reader).await? else {
        return Ok(None);
    };
    Ok(Some(match (kind, &bytes[..]) {
        (INPUT, _) => Input::Data(bytes),
        (END_OF_INPUT, []) => Input::End,
        (RESIZE, &[a, b, c, d]) => {
            Input::Resize(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))
        }
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }))
}

/// Writes what a supervisor tells.
pub(crate) async fn write_told<W: AsyncWrite + Unpin>(
    writer: &mut W,
    told: &Told,
) -> io::Result<()> {
    match told {
        Told::Started(id) => write(writer, STARTED, &id.to_be_bytes()).await,
        Told::Shown(Shown::Stdout(data)) => write(writer, STDOUT, data).await,
        Told::Shown(Shown::Stderr(data)) => write(writer, STDERR, data).await,
        Told::Shown(Shown::End) => Ok(()),
        Told::Finished(finish) => write(writer, FINISHED, &serde_json::to_vec(finish)?).await,
    }
}

/// Reads what a supervisor tells; none at the connection's end.
pub(crate) async fn read_told<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Option<Told>> {
    let Some((kind, bytes)) = read(reader).await? else {
        return Ok(None);
    };
    Ok(Some(match (kind, &bytes[..]) {
        (STARTED, &[a, b, c, d]) => Told::Started(u32::from_be_bytes([a, b, c, d])),
        (STDOUT, _) => Told::Shown(Shown::Stdout(bytes)),
        (STDERR, _) => Told::Shown(Shown::Stderr(bytes)),
        (FINISHED, json) => Told::Finished(serde_json::from_slice(json)?),
        _ => return Err(io::ErrorKind::InvalidData.into()),
    }))
}

async fn write<W: AsyncWrite + Unpin>(writer: &mut W, kind: u8, bytes: &[u8]) -> io::Result<()> {
    let too_long = || io::Error::from(io::ErrorKind::InvalidInput);
    let length = u32::try_from(bytes.len()).map_err(|_| too_long())?;
    if bytes.len() > LARGEST {
        return Err(too_long());
    }
    let mut frame = Vec::with_capacity(5 + bytes.len());
    frame.push(kind);
    frame.extend(length.to_be_bytes());
    frame.extend(bytes);
    writer.write_all(&frame).await
}

/// The next frame; none at the connection's end, which is not within a frame.
async fn read<R: AsyncRead + Unpin>(reader: &mut R) -> io::Result<Option<(u8, Bytes)>> {
    let kind = match reader.read_u8().await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    };
    let length = reader.read_u32().await?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > LARGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).await?;
    Ok(Some((kind, bytes.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<F: Future>(future: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread();
        { runtime }.build().unwrap().block_on(future)
    }

    #[test]
    fn frames_come_back() {
        let data = Bytes::from_static(b"\0\xff\n");
        let long = Bytes::from(vec![7; LARGEST]);
        let inputs = [
            Input::Data(data.clone()),
            Input::Data(long.clone()),
            Input::Data(Bytes::new()),
            Input::End,
            Input::Resize(1, u16::MAX),
        ];
        let told = [
            Told::Started(u32::MAX),
            Told::Shown(Shown::Stdout(data)),
            Told::Shown(Shown::Stderr(long)),
            Told::Finished(Finish::Exited(Exit::Signal(9))),
            Told::Finished(Finish::Failed("no".to_owned(), 127)),
        ];
        block_on(async {
            let (mut there, mut back) = (Vec::new(), Vec::new());
            for input in &inputs {
                write_input(&mut there, input).await.unwrap();
            }
            for told in &told {
                write_told(&mut back, told).await.unwrap();
            }
            let (mut there, mut back) = (&there[..], &back[..]);
            for input in inputs {
                assert_eq!(read_input(&mut there).await.unwrap(), Some(input));
            }
            for told in told {
                assert_eq!(read_told(&mut back).await.unwrap(), Some(told));
            }
            assert_eq!(read_input(&mut there).await.unwrap(), None);
            assert_eq!(read_told(&mut back).await.unwrap(), None);
        });
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [
            &b"i"[..],
            b"i\0\0\0\x02x",
            b"i\x7f\xff\xff\xff",
            b"e\0\0\0\x01x",
            b"r\0\0\0\x03abc",
            b"x\0\0\0\0",
            b"F\0\0\0\x01{",
        ] {
            block_on(async {
                assert!(read_input(&mut { bytes }).await.is_err(), "{bytes:?}");
                assert!(read_told(&mut { bytes }).await.is_err(), "{bytes:?}");
            });
        }
        let long = Input::Data(vec![0; LARGEST + 1].into());
        assert!(block_on(write_input(&mut Vec::new(), &long)).is_err());
    }
}
