# Services of a host, one file for all or one file each. After a change: `tribune reload`, or SIGHUP.

service {
  name = "web"
  id   = "web-1"
  port = 80
  tags = ["v2", "primary"]

  meta {
    team = "shop"
  }

  weights {
    passing = 10
    warning = 1
  }

  check {
    id       = "web-1-http"
    name     = "home page"
    http     = "http://127.0.0.1:80/health"
    interval = "10s"
    timeout  = "2s"

    # Two failures in a row before it counts, one good answer brings it back.
    failures_before_critical = 2

    # An answer that takes this long is a warning.
    slow_warning = "500ms"

    # A service that has been critical for so long is removed.
    deregister_critical_service_after = "24h"
  }
}

service {
  name = "worker"

  # The program itself says that it lives: PUT /v1/agent/check/pass/service:worker
  check {
    ttl = "30s"
  }
}

# Checks of the host belong to no service; while one is critical all services of the host are left out.
check {
  id       = "disk"
  name     = "space on /"
  interval = "60s"

  host {
    resource         = "disk"
    path             = "/"
    warning_percent  = 85
    critical_percent = 95
  }
}
