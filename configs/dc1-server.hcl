# A server of datacenter dc1, which has three: this file, with its own advertise_addr and certificate, is on each of
# them. Certificates are made by two commands on one host:
#
#   tribune tls ca create                          # once
#   tribune tls cert create -server -dc=dc1        # for each server of dc1
#
# consul-agent-ca.pem goes to every host of every datacenter; consul-agent-ca-key.pem to none of them.

server           = true
bootstrap_expect = 3 # the datacenter begins when three servers have found each other

datacenter = "dc1"
data_dir   = "/var/lib/tribune"

client_addr = "127.0.0.1"

# What others are told. Leave it out when the host has one private IPv4 address.
advertise_addr = "10.1.0.10"

# One server that answers is enough; the rest is learned. Names are looked up again at each attempt.
retry_join = ["10.1.0.10", "10.1.0.11", "10.1.0.12"]

# What the gossip in this datacenter is encrypted with: the output of `tribune keygen`, the same on all its hosts.
# Better in a file of its own beside this one, readable by the agent alone.
encrypt = "pUqJrVyVRj5jsiYEkM/tFQYfWyJIv4s3XkvDwy7Cu5s="

# Mutual TLS on every port between nodes. Servers have to carry server.<datacenter>.consul in their certificate.
ca_file   = "/etc/tribune.d/tls/consul-agent-ca.pem"
cert_file = "/etc/tribune.d/tls/dc1-server-consul-0.pem"
key_file  = "/etc/tribune.d/tls/dc1-server-consul-0-key.pem"

verify_incoming        = true
verify_outgoing        = true
verify_server_hostname = true

# The other datacenter is reached through TCP port 8302 of any of its servers; the rest is learned.
retry_join_wan = ["10.2.0.10"]

# What it is told, if servers have an address there that differs from their own:
# advertise_addr_wan = "192.0.2.10"

ports {
  server   = 8300 # servers among each other, client agents to servers
  serf_lan = 8301 # who is there, in this datacenter (UDP and TCP)
  serf_wan = 8302 # between datacenters
}
