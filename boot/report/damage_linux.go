package report

import (
	"os"
	"path/filepath"
	"strings"
)

// DamageFile says of the running root that it is damaged. It lies where a reboot ends it.
const DamageFile = "/run/twinkeel-guard/damaged"

// maxDamage bounds it, in bytes.
const maxDamage = 500

// SaveDamage writes a damage file.
func SaveDamage(path, text string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, []byte(text+"\n"), 0o644)
}

// Damage returns what a damage file says; "" where there is none.
func Damage(path string) string {
	b, _, err := readFile(path, maxDamage)
	if err != nil {
		return ""
	}
	text, _, _ := strings.Cut(strings.ToValidUTF8(string(b), "\uFFFD"), "\n")
	return text
}
