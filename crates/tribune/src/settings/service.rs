//! How this node answers and checks: HTTP, DNS, checks, alerts and the definitions of the files.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderName, HeaderValue, Uri};
use ipnet::IpNet;
use tribune_api::GoDuration;
use tribune_api::agent::{CheckDefinition, Origin, ServiceDefinition};
use tribune_api::convert::LocalService;
use tribune_api::params::WaitLimits;
use tribune_core::CheckSpec;
use tribune_local::{AlertConfig, Definitions, ScriptPolicy};

use super::reading::{Reading, span};
use super::{Checks, Dns, Http, Soa, naming};
use crate::config::DnsConfig;

const DNS_PORT: u16 = 53;

impl Reading<'_> {
    pub(super) fn http(&mut self) -> Http {
        let config = self.config;
        let connections = config.limits.http_max_conns_per_client.unwrap_or(200);
        Http {
            discovery_max_stale: Some(span(config.discovery_max_stale, 0)).filter(|stale| !stale.is_zero()),
            use_cache: config.http_config.use_cache.unwrap_or(true),
            waits: self.waits(),
            block_endpoints: config.http_config.block_endpoints.clone(),
            response_headers: self.response_headers(),
            allow_write_from: self.networks(),
            connections_per_client_max: Some(usize::try_from(connections).unwrap_or(usize::MAX))
                .filter(|it| *it > 0),
            loopback_limited: config.limits.http_max_conns_per_client.is_some(),
        }
    }

    fn waits(&mut self) -> WaitLimits {
        let usual = WaitLimits::default();
        let max = self.config.max_query_time.map_or(usual.max, |span| span.0);
        let default = self.config.default_query_time.map_or(usual.default.min(max), |span| span.0);
        if max.is_zero() {
            self.refuse("max_query_time", "must be longer than nothing");
        }
        if default > max {
            let why = format!("must not be longer than max_query_time, which is {}", GoDuration::from(max));
            self.refuse("default_query_time", &why);
        }
        WaitLimits { default, max }
    }

    fn response_headers(&mut self) -> Vec<(HeaderName, HeaderValue)> {
        let mut headers = Vec::new();
        for (name, value) in &self.config.http_config.response_headers {
            match (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                (Ok(name), Ok(value)) => headers.push((name, value)),
                _ => {
                    let why = format!("must hold HTTP headers, not {name:?} = {value:?}");
                    self.refuse("http_config.response_headers", &why);
                }
            }
        }
        headers
    }

    fn networks(&mut self) -> Vec<IpNet> {
        let mut networks = Vec::new();
        for text in &self.config.http_config.allow_write_http_from {
            let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            match network {
                Ok(network) => networks.push(network),
                Err(_) => {
                    let why = format!("must hold networks such as \"10.0.0.0/8\", not {text:?}");
                    self.refuse("http_config.allow_write_http_from", &why);
                }
            }
        }
        networks
    }

    pub(super) fn dns(&mut self) -> Dns {
        let config = self.config;
        let written = &config.dns_config;
        let domain = self.domain("domain", config.domain.as_deref().unwrap_or("consul."));
        let alt_domain = config.alt_domain.as_deref().filter(|it| !it.is_empty());
        let alt_domain = alt_domain.map(|text| self.domain("alt_domain", text));
        let strategy = written.recursor_strategy.as_deref().unwrap_or("sequential");
        if !["sequential", "random"].contains(&strategy) {
            let why = format!("must be \"sequential\" or \"random\", not {strategy:?}");
            self.refuse("dns_config.recursor_strategy", &why);
        }
        Dns {
            domain,
            alt_domain,
            node_ttl: span(written.node_ttl, 0),
            service_ttl: written.service_ttl.iter().map(|(name, ttl)| (name.to_lowercase(), ttl.0)).collect(),
            enable_truncate: written.enable_truncate.unwrap_or(false),
            only_passing: written.only_passing.unwrap_or(false),
            udp_answer_limit: written.udp_answer_limit.unwrap_or(3) as usize,
            a_record_limit: written.a_record_limit.map(|limit| limit as usize).filter(|limit| *limit > 0),
            node_meta_txt: written.enable_additional_node_meta_txt.unwrap_or(true),
            disable_compression: written.disable_compression.unwrap_or(false),
            soa: soa(written),
            recursors: self.recursors(),
            recursor_timeout: span(written.recursor_timeout, 2),
            recursors_at_random: strategy == "random",
        }
    }

    fn domain(&mut self, key: &str, text: &str) -> String {
        let domain = naming::domain(text).unwrap_or_else(|why| {
            self.refuse(key, &why);
            text.to_owned()
        });
        format!("{domain}.")
    }

    fn recursors(&mut self) -> Vec<SocketAddr> {
        let mut recursors = Vec::new();
        for text in &self.config.recursors {
            let address =
                text.parse().or_else(|_| text.parse().map(|ip: IpAddr| SocketAddr::new(ip, DNS_PORT)));
            match address {
                Ok(address) if recursors.contains(&address) => {}
                Ok(address) => recursors.push(address),
                Err(_) => {
                    let why =
                        format!("must hold addresses such as \"8.8.8.8\" or \"8.8.8.8:53\", not {text:?}");
                    self.refuse("recursors", &why);
                }
            }
        }
        recursors
    }

    pub(super) fn checks(&mut self) -> Checks {
        let config = self.config;
        let scripts = match (config.enable_script_checks, config.enable_local_script_checks) {
            (Some(true), _) => ScriptPolicy::Anyone,
            (_, Some(true)) => ScriptPolicy::Files,
            _ => ScriptPolicy::Nobody,
        };
        let is_open = self.config.client_addr.as_deref().is_some_and(|text| !text.starts_with("127."));
        if scripts == ScriptPolicy::Anyone && is_open && config.http_config.allow_write_http_from.is_empty() {
            let why = "lets everyone who reaches the HTTP port run programs on this host; prefer \
                       enable_local_script_checks, or set http_config.allow_write_http_from";
            self.warn("enable_script_checks", why);
        }
        Checks {
            scripts,
            update_interval: span(config.check_update_interval, 300),
            output_bytes_max: config.check_output_max_size.unwrap_or(4096) as usize,
            discard_output: config.discard_check_output.unwrap_or(false),
            ae_interval: span(config.ae_interval, 60),
        }
    }

    pub(super) fn alerts(&mut self) -> AlertConfig {
        let written = &self.config.alerts;
        let webhook = written.webhook.clone().filter(|url| !url.is_empty());
        let is_url = |url: &String| {
            let url = url.parse::<Uri>().ok();
            url.is_some_and(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some())
        };
        if webhook.as_ref().is_some_and(|url| !is_url(url)) {
            self.refuse(
                "alerts.webhook",
                "must be a URL that begins with https:// or http:// and names a host",
            );
        }
        AlertConfig { webhook, log: written.log.unwrap_or(false) }
    }

    pub(super) fn definitions(&mut self) -> Definitions {
        let mut definitions = Definitions::default();
        for (at, written) in self.config.services.iter().enumerate() {
            let read =
                ServiceDefinition::decode(written.clone(), Origin::File).map_err(|error| error.to_string());
            match read.and_then(|it| LocalService::try_from(it).map_err(|error| error.to_string())) {
                Ok(service) => definitions.services.push((service.instance, service.checks)),
                Err(why) => self.refuse_definition(&format!("services.{at}"), "service", written, &why),
            }
        }
        for (at, written) in self.config.checks.iter().enumerate() {
            let read =
                CheckDefinition::decode(written.clone(), Origin::File).map_err(|error| error.to_string());
            match read.and_then(|it| CheckSpec::try_from(it).map_err(|error| error.to_string())) {
                Ok(check) => definitions.checks.push(check),
                Err(why) => self.refuse_definition(&format!("checks.{at}"), "check", written, &why),
            }
        }
        definitions
    }

    fn refuse_definition(&mut self, path: &str, what: &str, written: &serde_json::Value, why: &str) {
        let name = written["Name"].as_str().or(written["ID"].as_str()).unwrap_or("without a name");
        self.refuse_at(path, format!("{what} {name:?}: {why}"));
    }
}

fn soa(written: &DnsConfig) -> Soa {
    Soa {
        expire: written.soa.expire.unwrap_or(86_400),
        min_ttl: written.soa.min_ttl.unwrap_or(0),
        refresh: written.soa.refresh.unwrap_or(3600),
        retry: written.soa.retry.unwrap_or(600),
    }
}
