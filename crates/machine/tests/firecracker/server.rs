//! A stand-in for Firecracker: it takes the calls that the definition has, in the order and the
//! number in which Firecracker takes them, and opens what they name as Firecracker would. Its guest
//! is a task in the same process, and finds the metadata where this serves them: version 2, as it is
//! built into Firecracker.
//!
//! What it takes is written to `/calls` in the jail, a line a call.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use firebuild_machine::metadata::Service;
use firebuild_protocol::metadata::Document;
use http::{Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::AbortHandle;

use crate::definition::Definition;
use crate::stand_in::{Behaviour, Oops};
use crate::{guest, sys};

/// The most bytes of a body, and of the metadata.
const LIMIT: usize = 51_200;

/// Calls that can be made once.
const ONCE: [&str; 3] = ["/logger", "/metrics", "/mmds/config"];

/// Calls that only a VM that runs takes.
const RUN_TIME: [(&str, &str); 2] = [("PATCH", "/vm"), ("PATCH", "/drives/{drive_id}")];

/// One Firecracker.
struct Firecracker {
    definition: Definition,
    behaviour: Behaviour,
    /// What was configured, by path.
    made: BTreeMap<String, Value>,
    /// Paths in the order of the first call.
    order: Vec<String>,
    state: &'static str,
    metadata: Option<Document>,
    service: Option<AbortHandle>,
    listener: std::net::TcpListener,
}

/// Is Firecracker, in its jail.
pub(crate) fn main(id: &str, arguments: &[String], behaviour: Behaviour) -> Result<(), Oops> {
    if let Some(status) = behaviour.ends_early {
        eprintln!("Error: RunWithApi: something to say");
        std::process::exit(status);
    }
    let [option, socket] = arguments else {
        return Err(format!("unexpected arguments {arguments:?}").into());
    };
    assert_eq!(option, "--api-sock");
    std::thread::sleep(Duration::from_millis(behaviour.hesitates));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(id.to_owned(), socket, behaviour))
}

async fn serve(id: String, socket: &str, behaviour: Behaviour) -> Result<(), Oops> {
    let api = UnixListener::bind(socket)?;
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let firecracker = Arc::new(Mutex::new(Firecracker {
        definition: Definition::of(behaviour.minor),
        behaviour,
        made: BTreeMap::new(),
        order: Vec::new(),
        state: "Not started",
        metadata: None,
        service: None,
        listener,
    }));
    loop {
        let (stream, _) = api.accept().await?;
        let (firecracker, id) = (Arc::clone(&firecracker), id.clone());
        tokio::spawn(async move {
            let answer = service_fn(|request: Request<Incoming>| {
                let (firecracker, id) = (Arc::clone(&firecracker), id.clone());
                async move { Ok::<_, Infallible>(answer(&firecracker, &id, request).await) }
            });
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

async fn answer(
    firecracker: &Mutex<Firecracker>,
    id: &str,
    request: Request<Incoming>,
) -> Response<String> {
    let (head, mut body) = request.into_parts();
    let mut bytes = Vec::new();
    while let Some(Ok(frame)) =
        std::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await
    {
        bytes.extend_from_slice(&frame.into_data().unwrap_or_default());
    }
    let (method, path) = (head.method.as_str(), head.uri.path());
    let mut firecracker = firecracker.lock().unwrap();
    let done = firecracker.take(method, path, &bytes, id);
    let (status, body) = match done {
        Ok(Value::Null) => (StatusCode::NO_CONTENT, String::new()),
        Ok(body) => (StatusCode::OK, body.to_string()),
        Err(fault) => (
            StatusCode::BAD_REQUEST,
            json!({"fault_message": fault}).to_string(),
        ),
    };
    let mut log = fs_err::OpenOptions::new();
    let log = log.create(true).append(true).open("/calls");
    writeln!(log.unwrap(), "{} {method} {path}", status.as_u16()).unwrap();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

impl Firecracker {
    fn take(&mut self, method: &str, path: &str, body: &[u8], id: &str) -> Result<Value, String> {
        if body.len() > LIMIT {
            return Err("the payload exceeds the limit".to_owned());
        }
        let body = match body {
            [] => None,
            bytes => Some(serde_json::from_slice(bytes).map_err(|e| e.to_string())?),
        };
        let template = self.definition.check(method, path, body.as_ref())?;
        if self.behaviour.refuses.as_deref() == Some(path) {
            return Err("no such luck".to_owned());
        }
        let call = (method, template.as_str());
        if RUN_TIME.contains(&call) && self.state == "Not started" {
            return Err("the operation is not supported before starting the microVM".to_owned());
        }
        let any_time = [("PUT", "/mmds"), ("PATCH", "/mmds"), ("PUT", "/actions")];
        let pre_boot = method == "PUT" && !any_time.contains(&call);
        if pre_boot && self.state != "Not started" {
            return Err("the operation is not supported after starting the microVM".to_owned());
        }
        match (call, body) {
            (("GET", "/"), _) => Ok(json!({"app_name": "Firecracker", "id": id,
                "state": self.state, "vmm_version": "1"})),
            (("PATCH", "/vm"), Some(body)) => self.turn(&body["state"]),
            (("PUT", "/mmds"), Some(body)) => self.put_metadata(&body),
            (("PUT", "/actions"), Some(body)) => self.act(&body["action_type"]),
            (("PUT", _), Some(body)) => self.configure(path, &template, body),
            _ => Err(format!("the stand-in has no `{method} {path}`")),
        }
    }

    /// Each once at most, and in the order of the documents.
    fn configure(&mut self, path: &str, template: &str, body: Value) -> Result<Value, String> {
        let done = self.made.contains_key(path);
        if done && (ONCE.contains(&template) || template.contains('{')) {
            return Err(format!("`{path}` is configured already"));
        }
        if template == "/mmds/config" {
            for name in body["network_interfaces"].as_array().unwrap() {
                let nic = format!("/network-interfaces/{}", name.as_str().unwrap());
                if !self.made.contains_key(&nic) {
                    return Err(format!("no network interface `{name}`"));
                }
            }
        }
        if let Some(file) = body["path_on_host"].as_str() {
            let write = body["is_read_only"] == false;
            // As its own user, whom the jailer made it.
            let opened = fs_err::OpenOptions::new()
                .read(true)
                .write(write)
                .open(file);
            opened.map_err(|error| format!("cannot open a drive: {error}"))?;
        }
        if let Some(file) = body["log_path"].as_str() {
            let mut log = fs_err::OpenOptions::new();
            let log = log.read(true).write(true).open(file);
            writeln!(
                log.map_err(|e| e.to_string())?,
                "Running Firecracker, says the log"
            )
            .unwrap();
        }
        self.made.insert(path.to_owned(), body);
        self.order.push(path.to_owned());
        Ok(Value::Null)
    }

    fn put_metadata(&mut self, body: &Value) -> Result<Value, String> {
        if !self.made.contains_key("/mmds/config") {
            return Err("the metadata service is not configured".to_owned());
        }
        self.metadata = Some(serde_json::from_value(body.clone()).map_err(|e| e.to_string())?);
        if self.state != "Not started" {
            self.serve_metadata();
        }
        Ok(Value::Null)
    }

    fn turn(&mut self, state: &Value) -> Result<Value, String> {
        let (from, to) = match state.as_str() {
            Some("Paused") => ("Running", "Paused"),
            _ => ("Paused", "Running"),
        };
        if self.state != from {
            return Err(format!("the VM is {}", self.state));
        }
        self.state = to;
        Ok(Value::Null)
    }

    fn act(&mut self, action: &Value) -> Result<Value, String> {
        if action != "InstanceStart" {
            return Err(format!("nobody should need {action}"));
        }
        if self.state != "Not started" {
            return Err("the VM runs already".to_owned());
        }
        if let Some(status) = self.behaviour.ends_late {
            println!("the guest's console");
            std::process::exit(status);
        }
        let boot = self.made.get("/boot-source").ok_or("no kernel")?.clone();
        for file in ["kernel_image_path", "initrd_path"] {
            let path = boot[file].as_str().ok_or("no file to boot")?;
            fs_err::read(path).map_err(|error| error.to_string())?;
        }
        let names = self
            .made
            .iter()
            .filter(|(path, _)| path.starts_with("/network"));
        for (_, nic) in names {
            let device = nic["host_dev_name"].as_str().unwrap();
            let tap = sys::open_tap(device).map_err(|e| format!("cannot open `{device}`: {e}"))?;
            // Like everything of a VM's, it is there until the end.
            std::mem::forget(tap);
        }
        self.state = "Running";
        let address = self.serve_metadata();
        let line = boot["boot_args"].as_str().unwrap().to_owned();
        assert!(
            line.contains("reboot=k"),
            "Firecracker ends with a keyboard's reset only"
        );
        let floods = self.behaviour.floods;
        tokio::spawn(async move {
            flood(floods);
            let lived = guest::live(&line, address).await;
            if let Err(error) = &lived {
                println!("vminit: fatal: {error}");
            }
            // The guest's end is Firecracker's.
            std::process::exit(0);
        });
        Ok(Value::Null)
    }

    /// Serves what the metadata are now.
    fn serve_metadata(&mut self) -> SocketAddr {
        if let Some(service) = self.service.take() {
            service.abort();
        }
        let metadata = self.metadata.clone().unwrap().latest.metadata;
        let listener = self.listener.try_clone().unwrap();
        let address = listener.local_addr().unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let serving = Service::new(metadata).unwrap().serve(listener);
        self.service = Some(tokio::spawn(serving).abort_handle());
        address
    }
}

/// Says much, on the console and to the log.
fn flood(kilobytes: usize) {
    let line = "x".repeat(1023);
    let mut options = fs_err::OpenOptions::new();
    let options = options.write(true);
    let log = fs_err::os::unix::fs::OpenOptionsExt::custom_flags(options, 0o4000).open("/vm.log");
    let mut log = log.unwrap();
    for _ in 0..kilobytes {
        println!("{line}");
        // What nobody takes is lost, as it is with Firecracker.
        let _ = writeln!(log, "{line}");
    }
}
