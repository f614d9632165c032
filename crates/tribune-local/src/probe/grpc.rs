//! gRPC checks: one call of `grpc.health.v1.Health/Check`, whose two messages hold one field each and are written
//! and read by hand.

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::{HeaderMap, Request};
use tribune_core::CheckDefinition;

use super::Finding;
use super::h2ping::connect;
use super::tls::Tls;

/// Longest answer that is read. The message is two bytes; what is longer is no health answer.
const ANSWER_BYTES_MAX: usize = 4096;

/// `SERVING` of `HealthCheckResponse.ServingStatus`.
const SERVING: u64 = 1;

pub(super) async fn probe(definition: &CheckDefinition, tls: &Tls) -> Finding {
    let target = definition.grpc.as_str();
    match check(definition, tls).await {
        Ok(SERVING) => Finding::passing(format!("gRPC check {target}: success")),
        Ok(status) => Finding::critical(format!("gRPC {target} serving status: {}", serving_name(status))),
        Err(error) => Finding::critical(format!("gRPC check {target}: {error}")),
    }
}

async fn check(definition: &CheckDefinition, tls: &Tls) -> Result<u64, String> {
    let (address, service) = definition.grpc.split_once('/').unwrap_or((&definition.grpc, ""));
    let scheme = if definition.grpc_use_tls { "https" } else { "http" };
    let tls = definition.grpc_use_tls.then_some(tls);
    let (requests, connection) = connect(address, definition, tls).await?;
    tokio::select! {
        answer = call(requests, format!("{scheme}://{address}"), service) => answer,
        ended = connection => Err(match ended {
            Ok(()) => "the connection was closed".into(),
            Err(error) => error.to_string(),
        }),
    }
}

async fn call(requests: SendRequest<Bytes>, origin: String, service: &str) -> Result<u64, String> {
    let request = Request::post(format!("{origin}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", "Consul Health Check")
        .body(())
        .map_err(|error| error.to_string())?;
    let mut requests = requests.ready().await.map_err(|error| error.to_string())?;
    let (answer, mut body) = requests.send_request(request, false).map_err(|error| error.to_string())?;
    body.send_data(message(service), true).map_err(|error| error.to_string())?;
    let (head, mut body) = answer.await.map_err(|error| error.to_string())?.into_parts();
    if head.status != http::StatusCode::OK {
        return Err(format!("the server answered with HTTP status {}", head.status));
    }
    // An answer that is an error has its status in the first headers.
    call_status(&head.headers, false)?;
    let mut data = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.map_err(|error| error.to_string())?;
        body.flow_control().release_capacity(chunk.len()).map_err(|error| error.to_string())?;
        data.put(chunk);
        if data.len() > ANSWER_BYTES_MAX {
            return Err("the answer is longer than a health answer can be".into());
        }
    }
    let trailers = body.trailers().await.map_err(|error| error.to_string())?.unwrap_or_default();
    call_status(&trailers, true)?;
    serving_status(&data).ok_or_else(|| "the answer is not a health answer".into())
}

/// The call's own status: 0 is good; none is good only where it may still come.
fn call_status(headers: &HeaderMap, required: bool) -> Result<(), String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    match text("grpc-status") {
        Some("0") => Ok(()),
        None if !required => Ok(()),
        None => Err("the answer has no grpc-status".into()),
        Some(code) => Err(format!("rpc error: code {code}: {}", text("grpc-message").unwrap_or_default())),
    }
}

/// `HealthCheckRequest { string service = 1 }` in one length-prefixed frame.
fn message(service: &str) -> Bytes {
    let mut field = BytesMut::new();
    if !service.is_empty() {
        field.put_u8(0x0a);
        put_varint(&mut field, service.len() as u64);
        field.put_slice(service.as_bytes());
    }
    let mut frame = BytesMut::with_capacity(field.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(field.len()).unwrap_or(u32::MAX));
    frame.put(field);
    frame.freeze()
}

fn put_varint(bytes: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        bytes.put_u8((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.put_u8(value as u8);
}

/// `HealthCheckResponse { ServingStatus status = 1 }`; an absent field is zero.
fn serving_status(frame: &[u8]) -> Option<u64> {
    let (head, message) = frame.split_first_chunk::<5>()?;
    let [compressed, length @ ..] = head;
    if *compressed != 0 || u32::from_be_bytes(*length) as usize != message.len() {
        return None;
    }
    let Some((tag, value)) = message.split_first() else { return Some(0) };
    if *tag != 0x08 {
        return None;
    }
    let mut status = 0_u64;
    for (place, byte) in value.iter().take(9).enumerate() {
        status |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some(status);
        }
    }
    None
}

fn serving_name(status: u64) -> &'static str {
    match status {
        0 => "UNKNOWN",
        SERVING => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "not a known one",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_messages_are_written_and_read() {
        assert_eq!(&message("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&message("web")[..], [0, 0, 0, 0, 5, 0x0a, 3, b'w', b'e', b'b']);
        assert_eq!(serving_status(&[0, 0, 0, 0, 2, 8, 1]), Some(1));
        assert_eq!(serving_status(&[0, 0, 0, 0, 0]), Some(0));
        assert_eq!(serving_status(&[0, 0, 0, 0, 9, 8, 1]), None);
        assert_eq!(serving_status(&[0, 0, 0, 0, 3, 8, 0xff, 0xff]), None);
    }
}
