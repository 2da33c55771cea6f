//! The configuration as it is written: nothing is required here, and nothing has a meaning yet.
//!
//! Every value keeps its place in the text, so that the next step can name it when it is wrong.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::{Spanned, Value};

/// Options by name or by code, with values of any type.
pub(super) type Options = BTreeMap<Spanned<String>, Spanned<Value>>;

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) server: Option<Spanned<Server>>,
    pub(super) store: Option<Spanned<Store>>,
    pub(super) admin: Option<Spanned<Admin>>,
    pub(super) lease: Option<Spanned<Lease>>,
    #[serde(default)]
    pub(super) link: Vec<Spanned<Link>>,
    pub(super) policy: Option<Spanned<Policy>>,
    pub(super) softwire: Option<Spanned<Softwire>>,
    pub(super) information: Option<Spanned<Information>>,
    #[serde(default)]
    pub(super) options: Options,
}

/// `[server]`: where it serves, and as whom.
#[derive(Debug, Deserialize)]
#[expect(clippy::struct_field_names, reason = "the fields are named as the keys of the file")]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Server {
    pub(super) interfaces: Option<Spanned<Vec<Spanned<String>>>>,
    #[serde(default)]
    pub(super) listen: Vec<Spanned<String>>,
    pub(super) server_id: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) other_server_ids: Vec<Spanned<String>>,
    pub(super) duid: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) authoritative: bool,
    pub(super) datapath: Option<Spanned<String>>,
    pub(super) udp: Option<Spanned<bool>>,
    pub(super) cpus: Option<Spanned<Vec<Spanned<i64>>>>,
}

/// `[store]`: where promises are kept.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Store {
    pub(super) kind: Option<Spanned<String>>,
    pub(super) path: Option<Spanned<String>>,
    pub(super) capacity: Option<Spanned<Count>>,
    pub(super) ring_octets: Option<Spanned<Count>>,
}

/// `[admin]`: read, checked, and not served by this version.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Admin {
    pub(super) socket: Option<Spanned<String>>,
    pub(super) listen: Option<Spanned<String>>,
}

/// `[lease]`: times, and how many offers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Lease {
    pub(super) time: Option<Spanned<String>>,
    pub(super) max_time: Option<Spanned<String>>,
    pub(super) offer_hold: Option<Spanned<String>>,
    pub(super) offers_max: Option<Spanned<Count>>,
    pub(super) hold_down: Option<Spanned<String>>,
    pub(super) decline_hold: Option<Spanned<String>>,
    pub(super) early_renewal_percent: Option<Spanned<i64>>,
}

/// `[[link]]`: a place where clients are attached.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Link {
    pub(super) name: Option<Spanned<String>>,
    #[serde(rename = "match", default)]
    pub(super) matches: Vec<Spanned<Match>>,
    pub(super) prefer: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) pool: Vec<Spanned<Pool>>,
    #[serde(default)]
    pub(super) reservation: Vec<Spanned<Reservation>>,
    #[serde(default)]
    pub(super) options: Options,
}

/// A table of a link's `match`: all keys in it must fit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Match {
    pub(super) link_address: Option<Spanned<String>>,
    pub(super) source: Option<Spanned<String>>,
    pub(super) interface: Option<Spanned<String>>,
    pub(super) interface_id: Option<Spanned<String>>,
    pub(super) remote_id: Option<Spanned<String>>,
}

/// `[[link.pool]]`: addresses, and how they are cut into port sets.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Pool {
    pub(super) name: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) addresses: Vec<Spanned<String>>,
    pub(super) psid_offset: Option<Spanned<i64>>,
    pub(super) psid_len: Option<Spanned<i64>>,
    pub(super) reserved_ports: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    pub(super) options: Options,
}

/// `[[link.reservation]]`: a tuple that is one client's.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Reservation {
    pub(super) client_id: Option<Spanned<String>>,
    pub(super) remote_id: Option<Spanned<String>>,
    pub(super) address: Option<Spanned<String>>,
    pub(super) psid: Option<Spanned<i64>>,
    #[serde(default)]
    pub(super) options: Options,
}

/// `[policy]`: what the RFCs leave to the operator.
#[derive(Debug, Default, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the file")]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Policy {
    pub(super) renew_without_159: Option<Spanned<String>>,
    pub(super) renew_with_50: Option<Spanned<String>>,
    pub(super) release_without_159: Option<Spanned<String>>,
    pub(super) extend_leases: Option<bool>,
    #[serde(default)]
    pub(super) answer_inform_without_159: bool,
    pub(super) bind_source: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) ignore_159: bool,
    #[serde(default)]
    pub(super) allow_system_ports: bool,
    pub(super) psid_choice: Option<Spanned<String>>,
    pub(super) max_leases_per_site: Option<Spanned<i64>>,
    pub(super) site_prefix_len: Option<Spanned<i64>>,
    pub(super) queries_per_site: Option<Spanned<i64>>,
    #[serde(default)]
    pub(super) reply_to_source_port: bool,
    #[serde(default)]
    pub(super) pad_to_300: bool,
}

/// `[softwire]`: where the ends of softwires are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Softwire {
    #[serde(default)]
    pub(super) br: Vec<Spanned<String>>,
    pub(super) bind_prefix: Option<Spanned<String>>,
    pub(super) update_interval: Option<Spanned<String>>,
    pub(super) conflict: Option<Spanned<String>>,
}

/// `[information]`: what clients are told that ask for configuration only.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Information {
    pub(super) servers: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) refresh: Option<Spanned<String>>,
    pub(super) inf_max_rt: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) br: Vec<Spanned<String>>,
    pub(super) lw: Option<Spanned<Lightweight>>,
    #[serde(default)]
    pub(super) priority: Vec<Spanned<i64>>,
}

/// `lw` of `[information]`: the container of a lightweight 4over6 client.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Lightweight {
    #[serde(default)]
    pub(super) br: Vec<Spanned<String>>,
    pub(super) bind: Option<Spanned<Bind>>,
}

/// `bind` of `lw`: an address and its prefix, and perhaps which ports.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Bind {
    pub(super) address: Option<Spanned<String>>,
    pub(super) prefix: Option<Spanned<String>>,
    pub(super) psid_offset: Option<Spanned<i64>>,
    pub(super) psid_len: Option<Spanned<i64>>,
    pub(super) psid: Option<Spanned<i64>>,
}

/// A number of things: `1000`, or with a multiplier `"1M"`.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a number such as 1000, \"500k\" or \"1M\"")]
pub(super) enum Count {
    Plain(i64),
    Scaled(String),
}
