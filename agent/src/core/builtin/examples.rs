//! What one usually gives a built-in check, as lines of a document behind its name, built-in and interval.

pub(super) fn of(name: &str) -> &'static str {
    match name {
        "disk" => "with:\n  exclude: [/mnt/*, vfat]\nwarning: \"> 85\"\ncritical: \"> 95\"\n",
        "diskio" => "with:\n  devices: [sd*, nvme*]\nwarning: \"> 90\"\n",
        "network" => "with:\n  devices: [eth0, wg*]\n",
        "processes" => "with:\n  match: ^/usr/bin/python3 .*worker\n  user: app\ncritical: \"< 4\"\n",
        "temperature" => "with:\n  exclude: [acpitz*]\nwarning: \"> 75\"\n",
        "uptime" => "with:\n  reboot: false\nwarning: \"< 600\"\n",
        "systemd" => "with:\n  units: [ssh, backup.timer]\n  exclude: [apt-daily*]\n",
        "service" => "with:\n  name: [nginx, postgresql]\n",
        "time" => "warning: \"> 50\"\ncritical: \"> 500\"\n",
        "file" => "with:\n  path: /var/backups/db/*.dump\nwarning: \"> 93600\"\ncritical: \"> 180000\"\n",
        "log" => {
            "with:\n  path: /var/log/app/app.log\n  pattern: ERROR|FATAL\n  exclude: connection reset\ncritical: \"> 100\"\n"
        }
        "updates" => "every: 1h\ntimeout: 2m\nwith:\n  judge: security\ncritical: \"> 0\"\n",
        "containers" => "with:\n  names: [web, db-*]\n",
        "gpu" => "with:\n  devices: [gpu0]\nwarning: \"> 80\"\n",
        "http" => {
            "with:\n  url: https://shop.example.com/health\n  match: '\"status\": ?\"up\"'\n  auth_file: /etc/dogwatch/shop.auth\nwarning: \"> 800\"\ncritical: \"> 5000\"\n"
        }
        "tcp" => "with:\n  host: cache.example.com\n  port: 6379\n  send: PING\\r\\n\n  expect: ^[+]PONG\n",
        "dns" => {
            "with:\n  name: example.com\n  type: MX\n  server: 192.0.2.53\n  expect: [mail.example.com]\n"
        }
        "tls" => "with:\n  host: mail.example.com\n  starttls: smtp\nwarning: \"< 30\"\ncritical: \"< 10\"\n",
        "ping" => "with:\n  host: router.example.com\n  count: 10\n  rtt_warning: 50\n",
        _ => "",
    }
}
