package serve

import (
	"regexp"
	"strings"
)

// kind is a sort of file, or of question; it is the label of the counters.
type kind int

const (
	kindTimestamp kind = iota
	kindMetadata
	kindTarget
	kindBlob
	kindLog
	kindHealth
	kindMetrics
	kindOther
	kindCount
)

var kindNames = [kindCount]string{"timestamp", "metadata", "target", "blob", "log", "health", "metrics", "other"}

const (
	timestampPath = "metadata/timestamp.json"
	maxPath       = 640 // bytes; a target's name has at most 512, and gets a digest
)

// The shapes of names. An element never starts with a dot.
var (
	metadataName = regexp.MustCompile(`^metadata/[1-9][0-9]{0,9}\.[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}\.json$`)
	targetName   = regexp.MustCompile(`^targets/(?:[A-Za-z0-9_+~-][A-Za-z0-9._+~-]*/)*([0-9a-f]{64})\.[A-Za-z0-9._+~-]{1,128}$`)
	logName      = regexp.MustCompile(`^log/(?:checkpoint|index/[0-9a-f]{64}|tile/(?:[0-9]{1,2}|entries)/(?:x[0-9]{3}/){0,5}[0-9]{3}(?:\.p/[1-9][0-9]{0,2})?)$`)
	blobName     = regexp.MustCompile(`^blobs/sha256/([0-9a-f]{64})$`)
)

// place is what a URL's path stands for.
type place struct {
	kind   kind
	name   string // of the file in the repository
	digest string // of the file's bytes, in hexadecimal; "" if its name does not tell
}

// find reads a path. What has no place in a repository is kindOther.
func find(path string) place {
	name, ok := strings.CutPrefix(path, "/")
	if !ok || len(name) > maxPath {
		return place{kind: kindOther}
	}
	switch name {
	case timestampPath:
		return place{kind: kindTimestamp, name: name}
	case "healthz":
		return place{kind: kindHealth}
	case "metrics":
		return place{kind: kindMetrics}
	}
	if m := blobName.FindStringSubmatch(name); m != nil {
		return place{kindBlob, name, m[1]}
	}
	if m := targetName.FindStringSubmatch(name); m != nil {
		return place{kindTarget, name, m[1]}
	}
	if logName.MatchString(name) {
		return place{kind: kindLog, name: name}
	}
	if metadataName.MatchString(name) {
		return place{kind: kindMetadata, name: name}
	}
	return place{kind: kindOther}
}

// isFullTile reports whether a file of the log has got all the hashes or entries that it
// will ever have.
func isFullTile(name string) bool {
	return strings.HasPrefix(name, "log/tile/") && !strings.Contains(name, ".p/")
}
