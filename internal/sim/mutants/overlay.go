package mutants

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"strings"
)

// Switch is the environment variable that names the mutant that is on.
const Switch = "TWINKEEL_MUTANT"

// packageLine finds the name of a package.
var packageLine = regexp.MustCompile(`(?m)^package (\w+)$`)

// overlay is what go's -overlay reads.
type overlay struct {
	Replace map[string]string
}

// Build compiles the tests of package pkg, of the module in root, with every mutant
// planted and switched off, into the file out. It keeps the changed copies beside it.
func Build(root, pkg, out string) error {
	over, err := plant(root, filepath.Dir(out))
	if err != nil {
		return err
	}
	b, err := json.Marshal(over)
	if err != nil {
		return err
	}
	list := out + ".overlay.json"
	if err := os.WriteFile(list, b, 0o600); err != nil {
		return err
	}
	cmd := exec.Command("go", "test", "-c", "-overlay", list, "-o", out, pkg)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile mutants: %w\n%s", err, text)
	}
	return nil
}

// plant writes the changed copies into dir.
func plant(root, dir string) (overlay, error) {
	over := overlay{map[string]string{}}
	changed := map[string]string{}
	for _, m := range Table() {
		text, ok := changed[m.File]
		if !ok {
			b, err := os.ReadFile(filepath.Join(root, m.File))
			if err != nil {
				return over, fmt.Errorf("mutant %s: %w", m.Name, err)
			}
			text = string(b)
		}
		if n := strings.Count(text, m.Before); n != 1 {
			return over, fmt.Errorf("mutant %s: %s: found its text %d times, want once:\n%s", m.Name, m.File, n, m.Before)
		}
		changed[m.File] = strings.Replace(text, m.Before, m.After, 1)
	}
	for file, text := range changed {
		name := strings.ReplaceAll(file, "/", "_")
		if err := over.add(root, dir, file, name, text); err != nil {
			return over, err
		}
		pkg := packageLine.FindStringSubmatch(text)[1]
		at := path.Join(path.Dir(file), "planted_mutant.go")
		switches := fmt.Sprintf("package %s\n\nimport \"os\"\n\nvar plantedMutant = os.Getenv(%q)\n\nfunc planted(name string) bool { return plantedMutant == name }\n", pkg, Switch)
		if err := over.add(root, dir, at, strings.ReplaceAll(at, "/", "_"), switches); err != nil {
			return over, err
		}
	}
	return over, nil
}

func (o overlay) add(root, dir, file, name, text string) error {
	full, err := filepath.Abs(filepath.Join(root, file))
	if err != nil {
		return err
	}
	o.Replace[full] = filepath.Join(dir, name)
	return os.WriteFile(o.Replace[full], []byte(text), 0o600)
}

// Found is where a mutant was found.
type Found struct {
	Mutant Mutant
	Seed   uint64 // 0: not at all
	Law    string
}

// hunted is the line that the tests print about a hunt.
var hunted = regexp.MustCompile(`(?m)^hunt: seed (\d+): (.*)$`)

// Hunt lets the compiled tests live through at most n histories with one mutant on, until
// one breaks a law.
func Hunt(tests string, m Mutant, n int) (Found, error) {
	f := Found{Mutant: m}
	cmd := exec.Command(tests, "-test.run", "^TestHunt$", fmt.Sprintf("-sim.hunt=%d", n))
	cmd.Env = append(os.Environ(), Switch+"="+m.Name, "GOGC=400", "GOMAXPROCS=1")
	out, err := cmd.CombinedOutput()
	if got := hunted.FindSubmatch(out); got != nil {
		f.Law = string(got[2])
		_, err := fmt.Sscan(string(got[1]), &f.Seed)
		return f, err
	}
	if err != nil {
		return f, fmt.Errorf("mutant %s: %w\n%s", m.Name, err, out)
	}
	return f, nil
}
