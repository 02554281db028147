//! The one table of who gets what: a row for each route, a column for each caller.

use super::Object;

/// What callers get whose credential is one.
#[derive(Clone, Copy)]
pub struct Row {
    /// As it is registered, with the native prefix.
    pub route: &'static str,
    /// What follows the path, and a body that is accepted. `THING` stands for the object's name.
    pub query: &'static str,
    pub body: &'static str,
    pub object: Object,
    /// Any one of these is enough; none where the route asks for no credential.
    pub scopes: &'static str,
    /// Who may, with a scope of the row.
    pub own: u16,
    /// Another subject of the project.
    pub subject: u16,
    /// Another project: where there is an object, it is exactly what somebody gets who names what does not exist.
    pub project: u16,
    /// The own subject, with the first scope and with `resources` that name something else.
    pub narrow: u16,
}

/// A row whose route takes neither query nor body.
const fn bare(
    route: &'static str,
    object: Object,
    scopes: &'static str,
    [own, subject, project, narrow]: [u16; 4],
) -> Row {
    Row { route, query: "", body: "", object, scopes, own, subject, project, narrow }
}

const fn with(row: Row, query: &'static str, body: &'static str) -> Row {
    Row { query, body, ..row }
}

/// No credential is asked for, and none is looked at.
const fn public(route: &'static str, object: Object, status: u16) -> Row {
    bare(route, object, "", [status; 4])
}

const CHANNEL: &str = "{\"resource\":\"rooms/1\",\"address\":\"http://127.0.0.1:9/\"}";
/// What the object was opened with.
const SAME: &str = "{\"resource\":\"rooms/of-THING\",\"address\":\"http://127.0.0.1:9/\"}";
const WATCH: &str = "{\"id\":\"THING\",\"type\":\"web_hook\",\"address\":\"http://127.0.0.1:9/\"}";
const STOP: &str = "{\"id\":\"THING\",\"resourceId\":\"RESOURCE\"}";
const EVENT: &str = "{\"resource\":\"rooms/1\",\"name\":\"room.changed\"}";

const KEY: &str = "{\"subject\":\"s\",\"scopes\":[\"events\"]}";

use Object::{ApiKey, Capability, Channel, Event, Nothing, Resource};

#[rustfmt::skip]
pub const TABLE: &[Row] = &[
    //                                                                             own  subj proj narrow
    with(bare("POST /v1/events", Nothing, "events",                               [200, 200, 200, 200]), "", EVENT),
    with(bare("GET /v1/events", Nothing, "channels",                              [200, 200, 200, 403]), "?resource=rooms/1", ""),
    bare("GET /v1/events/{id}", Event, "channels events",                         [200, 200, 404, 404]),
    bare("DELETE /v1/events/{id}/data", Event, "events",                          [204, 204, 404, 204]),
    with(bare("POST /v1/channels", Nothing, "channels",                           [201, 201, 201, 403]), "", CHANNEL),
    bare("GET /v1/channels", Nothing, "channels",                                 [200, 200, 200, 200]),
    with(bare("DELETE /v1/channels", Nothing, "admin",                            [204, 204, 204, 204]), "?subject=nobody", ""),
    bare("GET /v1/channels/{id}", Channel, "channels",                            [200, 404, 404, 200]),
    // An id is of a project, so within it one that is taken shows; in another project it is free.
    with(bare("PUT /v1/channels/{id}", Channel, "channels",                       [200, 409, 201, 403]), "", SAME),
    with(bare("PATCH /v1/channels/{id}", Channel, "channels",                     [200, 404, 404, 403]), "", "{\"token\":\"x\"}"),
    // Whoever may watch something no longer may still stop.
    bare("DELETE /v1/channels/{id}", Channel, "channels",                         [204, 404, 404, 204]),
    bare("GET /v1/channels/{id}/attempts", Channel, "channels",                   [200, 404, 404, 200]),
    bare("GET /v1/channels/{id}/parked", Channel, "channels",                     [200, 404, 404, 200]),
    bare("POST /v1/channels/{id}/pause", Channel, "channels",                     [200, 404, 404, 403]),
    bare("POST /v1/channels/{id}/resume", Channel, "channels",                    [200, 404, 404, 403]),
    with(bare("POST /v1/channels/{id}/skip", Channel, "channels",                 [200, 404, 404, 403]), "", "{\"throughNumber\":1}"),
    bare("POST /v1/channels/{id}/renew", Channel, "channels",                     [200, 404, 404, 403]),
    bare("POST /v1/channels/{id}/ping", Channel, "channels",                      [202, 404, 404, 403]),
    with(bare("POST /v1/channels/{id}/replay", Channel, "channels",               [200, 404, 404, 403]), "", "{\"fromNumber\":2}"),
    bare("POST /v1/channels/{id}/parked/redrive", Channel, "channels",            [202, 404, 404, 403]),
    bare("POST /v1/channels/{id}/claim/rotate", Channel, "channels",              [200, 404, 404, 403]),
    with(bare("POST /v1/channels/{id}/secret/rotate", Channel, "channels",        [200, 404, 404, 403]), "", "{}"),
    bare("GET /v1/resources", Nothing, "channels events",                         [200, 200, 200, 200]),
    with(bare("PUT /v1/resources", Nothing, "events",                             [201, 201, 201, 201]), "", "{\"resource\":\"rooms/THING\"}"),
    bare("GET /v1/resources/{resourceId}", Resource, "channels events",           [200, 200, 404, 404]),
    // An admin has the whole project, whatever patterns say.
    bare("DELETE /v1/resources/{resourceId}", Resource, "admin",                  [204, 204, 404, 204]),
    with(bare("POST /v1/apikeys", Nothing, "admin",                               [201, 201, 201, 201]), "", KEY),
    bare("GET /v1/apikeys", Nothing, "admin",                                     [200, 200, 200, 200]),
    bare("DELETE /v1/apikeys/{id}", ApiKey, "admin",                              [204, 204, 404, 204]),
    // Only commands beside the store mint operators; whose project they name is all the same.
    bare("POST /v1/jobs/{name}", Nothing, "operator",                             [200, 200, 200, 200]),
    with(bare("POST /v1/keys/rotate", Nothing, "operator",                        [200, 200, 200, 200]), "", "{\"overlap\":\"0s\"}"),
    with(bare("POST /{resource}/watch", Nothing, "channels",                      [200, 200, 200, 403]), "", WATCH),
    with(bare("POST /{any}/channels/stop", Channel, "channels",                   [204, 403, 404, 204]), "", STOP),
    public("GET /claims/{capability}", Capability, 200),
    with(public("POST /claims/{capability}/ack", Capability, 200), "", "{\"through\":1}"),
    public("POST /claims/{capability}/resume", Capability, 204),
    public("GET /", Nothing, 200),
    public("GET /healthz", Nothing, 200),
    public("HEAD /healthz", Nothing, 200),
    public("GET /readyz", Nothing, 200),
    public("GET /openapi.json", Nothing, 200),
    public("GET /.well-known/jwks.json", Nothing, 200),
    public("HEAD /.well-known/jwks.json", Nothing, 200),
];
