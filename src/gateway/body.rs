//! A request's body, all of it, within its bounds.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;

use super::room::{Held, Room};
use super::{ApiError, MAX_BODY};
use crate::clock::Clock;

/// How long a body may take to come in.
const TIME: Duration = Duration::from_mins(1);

/// All of a body, and what it holds of the room; keep that as long as the body.
///
/// # Errors
/// Where it is too large, breaks off, takes too long, or finds no room.
pub(super) async fn read<C: Clock>(clock: &C, room: &Arc<Room>, body: Body) -> Result<(Bytes, Held), ApiError> {
    let mut held = room.enter()?;
    let whole = clock.within(TIME, gathered(body, &mut held)).await;
    let whole = whole.ok_or_else(|| ApiError::unreadable("The request body did not come in time."))??;
    Ok((whole, held))
}

async fn gathered(mut body: Body, held: &mut Held) -> Result<Bytes, ApiError> {
    // Most bodies come in one piece, which is taken as it is.
    let (mut first, mut whole) = (Bytes::new(), BytesMut::new());
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| ApiError::unreadable("The request body broke off."))?;
        let Ok(piece) = frame.into_data() else { continue };
        if first.len() + whole.len() + piece.len() > MAX_BODY {
            return Err(ApiError::too_large(MAX_BODY));
        }
        held.grow(piece.len())?;
        if first.is_empty() && whole.is_empty() {
            first = piece;
            continue;
        }
        whole.extend_from_slice(&std::mem::take(&mut first));
        whole.extend_from_slice(&piece);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}
