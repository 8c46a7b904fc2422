package serve

import (
	"strings"
	"testing"
)

func TestFilesOfTheLogHaveAPlaceAndNothingBesideThem(t *testing.T) {
	leaf := strings.Repeat("0a", 32)
	for path, full := range map[string]bool{
		"log/checkpoint": false, "log/index/" + leaf: false, "log/tile/0/000": true, "log/tile/0/000.p/7": false,
		"log/tile/3/x001/x234/067": true, "log/tile/entries/x001/067.p/255": false,
	} {
		if p := find("/" + path); p.kind != kindLog || p.name != path || isFullTile(path) != full {
			t.Errorf("%s: got %+v, full tile %t", path, p, isFullTile(path))
		}
	}
	for _, path := range []string{"log", "log/", "log/checkpoint/", "log/index/0a", "log/tile/0/0000", "log/tile/0/000.p/", "log/tile/0/000.p/0",
		"log/tile/-1/000", "log/tile/0/x1/000", "log/../keys/log.pem", "log/tile/entries", "log/tile/0/000.p/1000"} {
		if p := find("/" + path); p.kind != kindOther {
			t.Errorf("%s: got %+v, want none", path, p)
		}
	}
}
