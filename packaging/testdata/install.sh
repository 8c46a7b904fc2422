apt-get -o Dpkg::Use-Pty=0 install -y /debs/*_amd64.deb

# The commands run, with the version of their package.
version=$(dpkg-query -W -f '${Version}' twinkeel)
[ "$(twinkeel --version)" = "twinkeel version $version" ]
[ "$(twinkeeld --version)" = "twinkeeld version $version" ]
twinkeel-server publish --help >/dev/null

# Accounts and directories.
getent group twinkeel
[ "$(stat -c %a:%U /var/lib/twinkeel)" = 700:root ]
[ "$(stat -c %a:%U /srv/twinkeel)" = 755:twinkeel-publisher ]

# Units.
for unit in twinkeeld.service twinkeel-adopt.service twinkeel-fetcher.socket twinkeel-renew.timer twinkeel-check.timer; do
	[ "$(systemctl is-enabled $unit)" = enabled ]
done
[ "$(systemctl is-enabled twinkeel-serve.service || true)" = disabled ]
said=$(systemd-analyze verify --man=no twinkeeld.service twinkeel-adopt.service twinkeel-fetcher.socket \
	twinkeel-renew.timer twinkeel-check.timer twinkeel-serve.service 2>&1)
if echo "$said" | grep twinkeel; then
	exit 1
fi

# The configuration of the package is a conffile; manual pages and completions are there.
grep -qx /etc/twinkeel/conf.d/50-fetcher.toml /var/lib/dpkg/info/twinkeeld.conffiles
for page in man1/twinkeel.1 man1/twinkeel-rollback.1 man1/twinkeel-status.1 man8/twinkeeld.8 man1/twinkeel-server.1 man1/twinkeel-server-publish.1; do
	zcat /usr/share/man/$page.gz | grep -q '^.SH NAME'
done
for command in twinkeel twinkeel-server; do
	bash -n /usr/share/bash-completion/completions/$command
done
dpkg --verify twinkeel twinkeeld twinkeel-server

# The same again is an upgrade that changes nothing; what was disabled stays so.
systemctl disable twinkeel-check.timer
dpkg -i /debs/*_amd64.deb
[ "$(systemctl is-enabled twinkeel-check.timer || true)" = disabled ]
[ "$(systemctl is-enabled twinkeeld.service)" = enabled ]
