//! A collector that is made of OpenTelemetry's own definitions, and what it receives.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::codegen::Service as _;

/// A collector that passes on what it is sent.
struct Collector {
    sent: Sender<ExportTraceServiceRequest>,
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.sent.send(request.into_inner()).unwrap();
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

/// Starts a collector; it ends with the test's process.
pub(crate) fn collector() -> (String, Receiver<ExportTraceServiceRequest>) {
    let (sent, received) = channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    listener.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let service = TraceServiceServer::new(Collector { sent });
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                let answer = service_fn(move |request: Request<Incoming>| {
                    let mut service = service.clone();
                    async move { Ok::<_, Infallible>(service.call(request).await.unwrap()) }
                });
                let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), answer));
            }
        });
    });
    (address, received)
}

/// Attributes with their values as text.
pub(crate) fn attributes(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    let text = |value: &KeyValue| match value.value.as_ref().unwrap().value.as_ref().unwrap() {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::BoolValue(truth) => truth.to_string(),
        any_value::Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    };
    let pairs = attributes.iter().map(|pair| (pair.key.clone(), text(pair)));
    pairs.collect()
}

/// What a process is, and the spans of its next request, which are all of one trace.
pub(crate) fn spans(
    received: &Receiver<ExportTraceServiceRequest>,
) -> (BTreeMap<String, String>, Vec<Span>) {
    let request = received.recv_timeout(Duration::from_secs(30)).unwrap();
    let [of_process] = &request.resource_spans[..] else {
        panic!("{request:?}");
    };
    let resource = attributes(&of_process.resource.as_ref().unwrap().attributes);
    let spans = of_process.scope_spans[0].spans.clone();
    for span in &spans {
        assert_eq!((span.trace_id.len(), span.span_id.len()), (16, 8));
        assert_eq!(span.trace_id, spans[0].trace_id);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    (resource, spans)
}
