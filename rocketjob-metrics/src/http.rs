//! Three paths of plain HTTP.

use std::{convert::Infallible, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode, body::Bytes, header, server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::page::Page;

/// How many connections are open at a time: nobody who asks needs more.
const CONNECTIONS: usize = 64;
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long is waited after a connection could not be accepted.
const BACK_OFF: Duration = Duration::from_millis(100);
/// What Prometheus knows the format by.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Answers until `stop`.
pub(crate) async fn answer(listener: TcpListener, page: Arc<Page>, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(BACK_OFF).await;
                continue;
            }
        };
        // Who finds no place is turned away, and asks again.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            continue;
        };
        let (page, stop) = (Arc::clone(&page), stop.clone());
        tokio::spawn(async move {
            let respond = service_fn(|request| {
                let response = route(&request, &page);
                async move { Ok::<_, Infallible>(response) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(PATIENCE)
                .serve_connection(TokioIo::new(stream), respond);
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                ended = connection.as_mut() => report(ended),
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    report(connection.await);
                }
            }
            drop(place);
        });
    }
}

fn report(ended: Result<(), hyper::Error>) {
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection for metrics broke");
    }
}

fn route<B>(request: &Request<B>, page: &Page) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return response(StatusCode::METHOD_NOT_ALLOWED, "text/plain", "only GET\n");
    }
    let judged = |(is_well, body)| {
        let status = if is_well {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        response(status, "application/json", body)
    };
    match request.uri().path() {
        "/metrics" => match page.metrics() {
            Ok(text) => response(StatusCode::OK, OPEN_METRICS, text),
            Err(error) => response(
                StatusCode::INTERNAL_SERVER_ERROR,
                "text/plain",
                format!("the metrics cannot be written: {error}\n"),
            ),
        },
        "/health" => judged(page.health()),
        "/ready" => judged(page.readiness()),
        _ => response(
            StatusCode::NOT_FOUND,
            "text/plain",
            "there are /metrics, /health and /ready\n",
        ),
    }
}

fn response(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        header::HeaderValue::from_static(content_type),
    );
    response
}
