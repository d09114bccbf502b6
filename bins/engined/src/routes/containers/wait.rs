//! `POST /containers/{id}/wait`

use bytes::Bytes;
use engine::container::{Exit, WaitCondition};
use engine_api::container::{WaitError, WaitResponse};
use futures_util::stream;
use http::StatusCode;

use crate::error::Error;
use crate::reply::{self, Response};
use crate::router::Call;
use crate::version::Gates;

/// The head of the answer goes out as soon as the waiter is registered: clients wait for it before they start the container.
pub(crate) async fn wait(call: Call) -> Result<Response, Error> {
    let word = if call.version.has_wait_conditions() { call.query.text("condition") } else { "" };
    let condition =
        WaitCondition::from_word(word).ok_or_else(|| Error::invalid(format!("invalid condition: {word:?}")))?;
    let waiter = call.daemon.engine.containers().get(&call.name).await?.waiter(condition);
    if !call.version.has_wait_conditions() {
        return Ok(reply::json(StatusCode::OK, &answer(&waiter.await?)));
    }
    let tells = call.version.tells_failed_removals() || condition != WaitCondition::Removed;
    let body = stream::once(async move {
        let answer = match waiter.await {
            Ok(exit) => answer(&exit),
            // An empty answer is an error to such a client.
            Err(_) if !tells => return Bytes::new(),
            Err(error) => WaitResponse { status_code: -1, error: Some(WaitError { message: error.to_string() }) },
        };
        reply::json_line(&answer)
    });
    Ok(reply::stream("application/json", body))
}

fn answer(exit: &Exit) -> WaitResponse {
    // Why a start failed is told by the start; an error here means that there is no exit code.
    WaitResponse { status_code: exit.code.into(), error: None }
}
