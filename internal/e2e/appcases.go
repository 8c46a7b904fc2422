package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/twinkeel/twinkeel/agent"
)

// appScenarios are those of machines whose releases name an application.
func appScenarios() []scenario {
	list := []scenario{
		{name: "an application, with the system: update, commit, rollback by hand", releases: []string{"2.0"}, loader: hasApps, tell: appsUpdate},
		{name: "an application, with an unhealthy system", sample: true, releases: []string{"2.2"}, loader: hasApps, tell: appsFallBack("2.2")},
		{name: "an application, with an unhealthy system; and an unhealthy one", releases: []string{"2.2", "2.11"}, loader: hasApps, tell: appsFallBack("2.2", "2.11")},
	}
	for i, phases := range [][]phase{{stage, arm, appTrial, commit}, {appTrial, appStart}, {revert}} {
		list = append(list, cuttingApps(i, phases))
	}
	return list
}

// Phases of a trial with an application. The first begins before the data is cloned for it; the
// second when the kernel, which mounts block devices only, says so of the application's image:
// then the application starts, and makes the data its own.
var (
	appTrial = phase{"trial of an application", "step=judge", 6 * time.Second}
	appStart = phase{"start of an application in its trial", "Can't open blockdev", 4 * time.Second}
)

// cuttingApps is the case of one such machine that loses power in some phases. In the end the
// application runs that belongs to the system, with all of its data.
func cuttingApps(i int, phases []phase) scenario {
	w := updating
	if phases[0] == revert {
		w = condemned
	}
	c := cutting(i, hasApps, journey{{w, phases}})
	c.sample = false
	c.tell = func(e *engine, h *host, random *rand.Rand) error {
		if err := e.cutAll(h, w, phases, random); err != nil {
			return err
		}
		if w == condemned {
			if err := h.ends("a", "1.0", 2); err != nil {
				return err
			}
			return h.asBefore()
		}
		if err := h.ends("b", "2.0", 2); err != nil {
			return err
		}
		return h.tookOver()
	}
	return c
}

// tookOver checks that version 2 runs on what it made of the data, and turns the machine off.
func (h *host) tookOver() error {
	if _, err := h.runsOn("2.0", "db/notes.json", formTwo); err != nil {
		return err
	}
	return h.checkData()
}

// runsOn checks that a version of the application runs, and that its data is one file with that
// content, byte for byte. It turns the machine off, and returns what all generations hold.
func (h *host) runsOn(version, file, content string) (all map[string]string, err error) {
	live, err := h.serves(version)
	if err != nil {
		return nil, err
	}
	if all, err = h.appData(); err != nil {
		return nil, err
	}
	if got, want := generation(all, live), map[string]string{file: content}; !maps.Equal(got, want) {
		return nil, fmt.Errorf("data of the application: got %q in %s, want %q; all: %q", got, live, want, all)
	}
	return all, nil
}

// The notes that the application has when the cases begin, and what keeps them in its
// versions' forms.
const (
	notesFile             = "db/notes.txt" // of version 1
	firstNote, secondNote = "milk", "Ada"
	formOne               = firstNote + "\n" + secondNote + "\n"
	formTwo               = `["` + firstNote + `","` + secondNote + `"]`
	formNone              = "null" // of the broken version
)

// installApp installs the application in the factory's release, and posts notes to it.
func (h *host) installApp() error {
	if groups, err := h.said("VM control groups: version 2 alone"); err != nil || !groups {
		return fmt.Errorf("control groups: want version 2 alone, %w", err)
	}
	if _, err := h.operator(0, "app", "update", "notes", "1.0"); err != nil {
		return err
	}
	for _, note := range []string{firstNote, secondNote} {
		if _, err := h.operator(0, "app", "exec", "notes", "/bin/notes", "post", note); err != nil {
			return err
		}
	}
	_, err := h.runsOn("1.0", notesFile, formOne)
	return err
}

// appsUpdate tells of a release whose application takes its data over, and of the way back:
// system, application and data, byte for byte.
func appsUpdate(e *engine, h *host, random *rand.Rand) error {
	if err := commits(e, h, random); err != nil {
		return err
	}
	if _, err := h.serves("2.0"); err != nil {
		return err
	}
	if err := h.confined(); err != nil {
		return err
	}
	if err := h.refused(agent.CodeDataFormat, "rollback"); err != nil {
		return fmt.Errorf("version 1 with the data of version 2: %w", err)
	}
	if out, err := h.operator(0, "rollback", "--data", "restore", "--reason", "test"); err != nil || h.m != nil {
		return fmt.Errorf("rollback: the machine did not go down: %s, %w", out, err)
	}
	if err := h.ends("a", "1.0", 4); err != nil {
		return err
	}
	return h.asBefore(formTwo)
}

// confined checks that the limits of the application's manifest are those of its control
// group, and that a restart leaves no other group behind.
func (h *host) confined() error {
	const groups = "/sys/fs/cgroup/twinkeel/"
	_, out, err := h.order("show " + groups + "notes.*/*.max " + groups + "notes.*/memory.oom.group")
	if err != nil {
		return err
	}
	for _, want := range []string{"/memory.max 67108864\n", "/memory.swap.max 0\n", "/memory.oom.group 1\n", "/pids.max 64\n", "/cpu.max 100000 100000\n"} {
		if !strings.Contains(out, want) {
			return fmt.Errorf("control group of the application: got %s, want %s", out, want)
		}
	}
	if _, err := h.operator(0, "app", "restart", "notes"); err != nil {
		return err
	}
	if _, out, err = h.order("show " + groups + "*/cgroup.type"); err != nil {
		return err
	}
	if n := strings.Count(out, "\n"); n != 2 { // of the application, and of its shim
		return fmt.Errorf("control groups after a restart: got %d, want 2: %s", n, out)
	}
	return nil
}

// appsFallBack tells of a release that is not healthy and whose application is, or of one
// that is healthy, with an application that loses its data and is not.
func appsFallBack(versions ...string) func(*engine, *host, *rand.Rand) error {
	return func(_ *engine, h *host, _ *rand.Rand) error {
		if err := h.start(); err != nil {
			return err
		}
		var left []string
		for _, version := range versions {
			if err := h.update(version); err != nil {
				return err
			}
			if err := h.ends("a", "1.0", 4); err != nil {
				return err
			}
			if _, err := h.serves("1.0"); err != nil {
				return fmt.Errorf("after %s: %w", version, err)
			}
			if err := h.refused(agent.CodeDenied, "update", version, "--now"); err != nil {
				return fmt.Errorf("a denied release: %w", err)
			}
			left = append(left, map[string]string{"2.2": formTwo, "2.11": formNone}[version])
		}
		return h.asBefore(left...)
	}
}

// asBefore checks a machine that has gone back to the first release, and turns it off: the
// application runs on its own data, byte for byte. What newer versions made of that is left in
// other generations.
func (h *host) asBefore(left ...string) error {
	all, err := h.runsOn("1.0", notesFile, formOne)
	if err != nil {
		return err
	}
	for _, want := range left {
		if !slices.Contains(slices.Collect(maps.Values(all)), want) {
			return fmt.Errorf("data of the application: got %q, want %q, too", all, want)
		}
	}
	return h.checkData()
}

// serves waits for a version of the application to run, with all notes, and returns the
// generation of its data.
func (h *host) serves(version string) (live string, err error) {
	for range 60 {
		var a agent.AppAnswer
		if err := h.decode(&a, "app", "list"); err != nil {
			return "", err
		}
		if len(a.Apps) == 1 && a.Apps[0].State == "running" && a.Apps[0].Version != nil && a.Apps[0].Version.String() == version {
			live = a.Apps[0].Generation
			break
		}
		time.Sleep(2 * time.Second)
	}
	out, err := h.operator(0, "app", "list")
	if err != nil {
		return "", err
	}
	if live == "" || !strings.Contains(out, "notes  "+version+"  running") {
		return "", fmt.Errorf("app list: got %s, want notes %s, running", out, version)
	}
	kind := appKinds[version]
	for range 60 { // it runs before it listens
		var code int
		code, out, err = h.run("/usr/bin/twinkeel", "app", "exec", "notes", "/bin/notes", "show")
		if err != nil || code == 0 {
			break
		}
		time.Sleep(time.Second)
	}
	if err == nil && (!strings.HasPrefix(out, "version "+kind+"\n") || !strings.HasSuffix(out, "\n"+formOne)) {
		err = fmt.Errorf("application: got %q, want version %s with all notes", out, kind)
	}
	return live, err
}

// decode asks twinkeel for JSON.
func (h *host) decode(into any, args ...string) error {
	out, err := h.operator(0, append([]string{"--json"}, args...)...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}

// appData turns the machine off and returns all data of the application, from outside: by
// GENERATION/VOLUME/FILE.
func (h *host) appData() (map[string]string, error) {
	if err := h.shutDown(); err != nil {
		return nil, err
	}
	image, err := h.dataCopy()
	if err != nil {
		return nil, err
	}
	debugfs, err := findTool("debugfs")
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(h.dir, "notes")
	if err := errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o755)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(h.ctx, bootLimit)
	defer cancel()
	if out, err := exec.CommandContext(ctx, debugfs, "-R", "rdump /apps/data/notes/gen "+dir, image).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("data partition: %w: %s", err, out)
	}
	files := map[string]string{}
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		files[strings.TrimPrefix(path, dir+"/gen/")] = string(b)
		return err
	})
	return files, errors.Join(err, os.RemoveAll(dir), os.Remove(image))
}

// generation is what one generation of all data holds.
func generation(all map[string]string, name string) map[string]string {
	files := map[string]string{}
	for path, content := range all {
		if rest, ok := strings.CutPrefix(path, name+"/"); ok {
			files[rest] = content
		}
	}
	return files
}
