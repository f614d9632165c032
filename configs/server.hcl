# The only server of a datacenter in production; dc1-server.hcl is one of three. Put it into /etc/tribune.d beside the
# files that define services; the unit tribune.service reads the whole folder.

server           = true
bootstrap_expect = 1 # a datacenter that is to survive the loss of a server needs three

datacenter = "dc1"
data_dir   = "/var/lib/tribune"

# What others are told. Leave advertise_addr out when the host has one private IPv4 address.
bind_addr = "0.0.0.0"

# advertise_addr = "{{ GetInterfaceIP \"eth0\" }}"
advertise_addr = "10.0.0.10"

# The HTTP API and DNS are served to the hosts of this network. There is no access control in this version: whoever
# reaches the HTTP port may read and write, so let a firewall decide who does, or serve HTTPS to those alone who have a
# certificate:
#
#   ports { http = -1 https = 8501 }
#   ca_file, cert_file, key_file as in dc1-server.hcl
#   verify_incoming_https = true
#
# A configuration that asks for access control with default_policy = "deny" is refused rather than served open.
client_addr = "127.0.0.1 10.0.0.10"

addresses {
  dns = "127.0.0.1 10.0.0.10"
}

http_config {
  # Services are registered on this host only; everyone else reads.
  allow_write_http_from = ["127.0.0.0/8", "::1/128"]

  response_headers {
    "X-Content-Type-Options" = "nosniff"
  }
}

limits {
  # Every watcher holds a connection. Addresses of this host itself are not counted.
  http_max_conns_per_client = 500
}

domain = "consul."

# Names outside the domain are asked here, on behalf of private networks only. Leave it out when the host's
# resolver sends nothing but the domain to this server.
recursors = ["10.0.0.2", "10.0.0.3"]

dns_config {
  # How long resolvers may keep an answer: short enough that a failed instance is soon gone.
  service_ttl {
    "*" = "5s"
  }

  node_ttl = "30s"

  # Tell clients over UDP when an answer was cut, so that they ask again over TCP. HAProxy discards such answers.
  enable_truncate = true

  soa {
    min_ttl = 5 # how long "no such service" may be kept
  }
}

# Checks may run programs when a file on this host says so, never because somebody asked by HTTP.
enable_local_script_checks = true

telemetry {
  prometheus_retention_time = "60s" # offers /v1/agent/metrics?format=prometheus
  disable_hostname          = true
}

# Tells people once when a check of this host turns critical and once when it recovers: a POST of a JSON object to
# the webhook, a line in the log, or both. Not a key of Consul's. The address is a secret and is never logged.
#
# alerts {
#   webhook = "https://hooks.example.com/services/T0/B0/token"
#   log     = true
# }

log_level            = "info"
log_json             = false
log_file             = "/var/log/tribune/"
log_rotate_bytes     = 104857600
log_rotate_max_files = 10
