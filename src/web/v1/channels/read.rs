//! A channel as a request describes it, read field by field.

use crate::{
    app::{
        auth::AuthRequest,
        channels::{ChangeRequest, OpenRequest},
        options::{OptionsRequest, RetryRequest},
    },
    domain::{
        auth::ReceiverAuth,
        channel::{
            CatchUp, Face, Format, OnExhausted, Ordering, RateLimit, Redirects, Renewal, SignatureScheme,
        },
        duration::parse_duration,
        expiry::Asked,
        hidden::Hidden,
        invalid::{FieldError, Invalid},
    },
    web::body::Object,
};

pub(super) fn read_open(mut channel: Object<'_>, path_id: Option<&str>) -> Result<OpenRequest, FieldError> {
    let id = match (path_id, channel.take_string("id")?) {
        (Some(path), Some(given)) if path != given => {
            return Err(channel.error("id", Invalid::Rule("be the id in the path")));
        }
        (Some(path), _) => Some(path.to_owned()),
        (None, given) => given,
    };
    let open = OpenRequest {
        face: Face::Native,
        id,
        resource: channel.take_required_string("resource")?,
        query: None,
        address: channel.take_required_string("address")?,
        token: channel.take_string("token")?,
        expiry: take_expiry(&mut channel)?,
        format: take_format(&mut channel)?.unwrap_or(Format::Standard),
        payload: channel.take_bool("payload")?,
        catch_up: take_catch_up(&mut channel)?,
        signatures: take_signatures(&mut channel)?,
        secret: channel.take_string("secret")?.map(Hidden::new),
        ordering: take_ordering(&mut channel)?.unwrap_or_default(),
        options: take_options(&mut channel)?,
    };
    channel.finish()?;
    Ok(open)
}

pub(super) fn read_change(mut channel: Object<'_>) -> Result<ChangeRequest, FieldError> {
    for fixed in ["id", "resource", "secret", "signatures", "ordering", "uid", "state"] {
        if channel.has(fixed) {
            return Err(channel.error(fixed, Invalid::Rule("not be changed here")));
        }
    }
    let token_given = channel.has("token");
    let change = ChangeRequest {
        address: channel.take_string("address")?,
        token: channel.take_string("token").map(|token| token_given.then_some(token))?,
        expiry: take_expiry(&mut channel)?,
        renews: false,
        payload: channel.take_bool("payload")?,
        format: take_format(&mut channel)?,
        catch_up: take_catch_up(&mut channel)?,
        options: take_options(&mut channel)?,
    };
    channel.finish()?;
    Ok(change)
}

/// `expiresAt` and `ttlSeconds`.
pub(in crate::web::v1) fn take_expiry(channel: &mut Object<'_>) -> Result<Asked, FieldError> {
    let at = channel.take_time("expiresAt")?;
    Ok(Asked { at, ttl_seconds: channel.take_whole_number("ttlSeconds")? })
}

fn take_format(channel: &mut Object<'_>) -> Result<Option<Format>, FieldError> {
    channel.take_word("format", Format::parse, "google, standard or raw")
}

fn take_catch_up(channel: &mut Object<'_>) -> Result<Option<CatchUp>, FieldError> {
    channel.take_word("catchUp", CatchUp::parse, "all or latest")
}

fn take_signatures(channel: &mut Object<'_>) -> Result<Option<Vec<SignatureScheme>>, FieldError> {
    let Some(words) = channel.take_strings("signatures")? else { return Ok(None) };
    let schemes: Option<Vec<_>> = words.iter().map(|word| SignatureScheme::parse(word)).collect();
    schemes
        .map(Some)
        .ok_or_else(|| channel.error("signatures", Invalid::Type("a list of v1, v1a and jwt, or empty")))
}

fn take_ordering(channel: &mut Object<'_>) -> Result<Option<Ordering>, FieldError> {
    channel.take_word("ordering", Ordering::parse, "fifo or none")
}

fn take_options(channel: &mut Object<'_>) -> Result<OptionsRequest, FieldError> {
    let (has_limit, has_address) = (channel.has("rateLimit"), channel.has("lifecycleAddress"));
    Ok(OptionsRequest {
        headers: channel.take_string_map("headers")?,
        metadata: channel.take_string_map("metadata")?,
        retry: take_retry(channel)?,
        events: channel.take_strings("events")?,
        event_states: None,
        event_types: None,
        rate_limit: take_rate_limit(channel).map(|limit| has_limit.then_some(limit))?,
        renewal: channel.take_word("renewal", Renewal::parse, "none or auto")?,
        lifecycle: channel.take_bool("lifecycle")?,
        lifecycle_address: channel
            .take_string("lifecycleAddress")
            .map(|address| has_address.then_some(address))?,
        redirects: channel.take_word("redirects", Redirects::parse, "retry, fail or update")?,
        auth: take_auth(channel)?,
        excerpts: channel.take_bool("excerpts")?,
    })
}

fn take_retry(channel: &mut Object<'_>) -> Result<Option<RetryRequest>, FieldError> {
    let Some(mut retry) = channel.take_object("retry")? else { return Ok(None) };
    let steps = retry.take_strings("schedule")?.unwrap_or_default();
    let read = |(at, step): (usize, &String)| {
        let wrong = || retry.error(&format!("schedule[{at}]"), Invalid::Type("a duration such as 30s"));
        parse_duration(step).map_err(|_| wrong())
    };
    let schedule = steps.iter().enumerate().map(read).collect::<Result<Vec<_>, _>>()?;
    let window = match retry.take_string("window")? {
        None => None,
        Some(text) => {
            let wrong = |_| retry.error("window", Invalid::Type("a duration such as 72h"));
            Some(parse_duration(&text).map_err(wrong)?)
        }
    };
    let read = RetryRequest {
        schedule,
        window,
        max_attempts: retry.take_whole_number("maxAttempts")?,
        on_exhausted: retry.take_word("onExhausted", OnExhausted::parse, "suspend or continue")?,
    };
    retry.finish()?;
    Ok(Some(read))
}

fn take_auth(channel: &mut Object<'_>) -> Result<Option<Option<AuthRequest>>, FieldError> {
    let given = channel.has("auth");
    let Some(mut auth) = channel.take_object("auth")? else { return Ok(given.then_some(None)) };
    let kind = auth.take_required_string("type")?;
    let read = match kind.as_str() {
        "basic" => ReceiverAuth::Basic {
            username: auth.take_required_string("username")?,
            secret: Hidden::new(auth.take_required_string("password")?),
        },
        "bearer" => ReceiverAuth::Bearer { secret: Hidden::new(auth.take_required_string("token")?) },
        "header" => ReceiverAuth::Header {
            name: auth.take_required_string("name")?,
            secret: Hidden::new(auth.take_required_string("value")?),
        },
        "jwt" => ReceiverAuth::Jwt { audience: auth.take_required_string("audience")? },
        _ => return Err(auth.error("type", Invalid::Type("basic, bearer, header or jwt"))),
    };
    auth.finish()?;
    Ok(Some(Some(read)))
}

fn take_rate_limit(channel: &mut Object<'_>) -> Result<Option<RateLimit>, FieldError> {
    let Some(mut limit) = channel.take_object("rateLimit")? else { return Ok(None) };
    let mut within = |name: &str, default: Option<i64>, max: u32| {
        let Some(number) = limit.take_whole_number(name)?.or(default) else {
            return Err(limit.error(name, Invalid::Missing));
        };
        u32::try_from(number)
            .ok()
            .filter(|number| (1..=max).contains(number))
            .ok_or_else(|| limit.error(name, Invalid::Rule("lie between 1 and 10000")))
    };
    let per_second = within("perSecond", None, RateLimit::PER_SECOND_MAX)?;
    let burst = within("burst", Some(i64::from(per_second)), RateLimit::BURST_MAX)?;
    limit.finish()?;
    Ok(Some(RateLimit { per_second, burst }))
}
