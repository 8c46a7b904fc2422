package release_test

import (
	"strings"
	"testing"

	"github.com/twinkeel/twinkeel/release"
)

func TestWhatTwoApplicationsCannotBothHaveIsAClash(t *testing.T) {
	port := func(proto string, host uint16) release.AppNetwork {
		return release.AppNetwork{Mode: "private", Publish: []release.AppPort{{Name: "a", Proto: proto, Host: host, App: 8080}}}
	}
	socket := func(listen string) release.AppNetwork {
		return release.AppNetwork{Mode: "none", Sockets: []release.AppSocket{{Name: "a", Listen: listen}}}
	}
	for _, c := range []struct {
		one, two release.AppNetwork
		want     string // in the error; "": they go together
	}{
		{port("tcp", 80), port("tcp", 80), "port tcp 80: app two publishes it"},
		{port("tcp", 80), port("udp", 80), ""},
		{port("tcp", 80), port("tcp", 81), ""},
		{socket("127.0.0.1:80"), socket("127.0.0.1:80"), "socket a: app two listens at 127.0.0.1:80"},
		{socket("127.0.0.1:80"), socket("127.0.0.2:80"), ""},
		{socket("0.0.0.0:80"), socket("127.0.0.1:80"), "socket a"},
		{socket("127.0.0.1:80"), socket("[::]:80"), "socket a"},
		{socket("0.0.0.0:80"), socket("[::1]:80"), ""},
		{socket("0.0.0.0:80"), socket("0.0.0.0:81"), ""},
		{port("tcp", 80), socket("127.0.0.1:80"), "port tcp 80: app two listens at 127.0.0.1:80"},
		{socket("127.0.0.1:80"), port("tcp", 80), "socket a: app two publishes port tcp 80"},
		{port("udp", 80), socket("127.0.0.1:80"), ""},
		{port("tcp", 80), socket("[::1]:80"), ""},
		{port("tcp", 80), socket("[::]:80"), "port tcp 80"},
	} {
		one := &release.AppManifest{Publisher: "acme", Name: "one", Network: c.one}
		two := &release.AppManifest{Publisher: "acme", Name: "two", Network: c.two}
		switch err := one.Clash(two); {
		case c.want == "" && err != nil:
			t.Errorf("%+v beside %+v: got %v, want none", c.one, c.two, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%+v beside %+v: got %v, want %q", c.one, c.two, err, c.want)
		}
		if (one.Clash(two) == nil) != (two.Clash(one) == nil) {
			t.Errorf("%+v and %+v: it clashes one way only", c.one, c.two)
		}
		two.Name = "one"
		if err := one.Clash(two); err == nil || !strings.Contains(err.Error(), "name: app acme/one") {
			t.Errorf("one name: got %v", err)
		}
	}
}
