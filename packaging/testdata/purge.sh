echo '{}' >/var/lib/twinkeel/history.json
echo secret >/srv/twinkeel/keys
echo 'server = "https://updates.example.net"' >/etc/twinkeel/twinkeel.toml
apt-get -o Dpkg::Use-Pty=0 purge -y twinkeel twinkeeld twinkeel-server
! command -v twinkeel
