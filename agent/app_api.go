package agent

import (
	"time"

	"github.com/twinkeel/twinkeel/release"
	"github.com/twinkeel/twinkeel/workloads"
)

// AppDo is what is asked about applications, or of one.
type AppDo string

// Questions (VerbApps) and changes (VerbApp).
const (
	AppList        AppDo = "list"
	AppWhy         AppDo = "why"
	AppPermissions AppDo = "permissions"
	AppDataList    AppDo = "data-list"
	AppLogs        AppDo = "logs"

	AppUpdate      AppDo = "update"
	AppRehearse    AppDo = "rehearse"
	AppRollback    AppDo = "rollback"
	AppHold        AppDo = "hold"
	AppUnhold      AppDo = "unhold"
	AppPin         AppDo = "pin"
	AppUnpin       AppDo = "unpin"
	AppStartIt     AppDo = "start"
	AppStopIt      AppDo = "stop"
	AppRestart     AppDo = "restart"
	AppGrantIt     AppDo = "grant"
	AppRevokeIt    AppDo = "revoke"
	AppDataRestore AppDo = "data-restore"
	AppDataDrop    AppDo = "data-drop"
)

// AppRequest is the part of a Request that is about applications. Reason, Force and Until
// are the Request's.
type AppRequest struct {
	Do         AppDo           `json:"do"`
	Name       string          `json:"name,omitempty"` // "": all, where that makes sense
	Version    release.Version `json:"version"`        // update, rehearse, pin
	Data       string          `json:"data,omitempty"` // rollback: keep or restore
	Generation string          `json:"generation,omitempty"`
	Permission string          `json:"permission,omitempty"` // grant, revoke: name or name=value
	Lines      int             `json:"lines,omitempty"`      // logs: the newest so many; 0: all that are kept
	Since      time.Time       `json:"since,omitzero"`       // logs: of this time and later
}

// AppAnswer is the answer to a question about applications.
type AppAnswer struct {
	Apps        []AppStatus     `json:"apps,omitempty"`
	Txn         *AppTransaction `json:"transaction,omitempty"` // under way
	Permissions []AppGrant      `json:"permissions,omitempty"`
	Data        []AppParked     `json:"data,omitempty"`
	Logs        string          `json:"logs,omitempty"`
}

// AppStatus is one application, as it is deployed and as it runs.
type AppStatus struct {
	Name       string           `json:"name"`
	Publisher  string           `json:"publisher"`
	Version    *release.Version `json:"version"` // deployed
	App        *release.Digest  `json:"app,omitempty"`
	Generation string           `json:"generation,omitempty"`
	Bundled    bool             `json:"bundled,omitempty"`
	State      string           `json:"state"` // running, stopped, looping, not-installed, failed
	Run        *workloads.State `json:"run,omitempty"`
	Offer      *release.Version `json:"offer,omitempty"` // what the last check found
	Hold       *Hold            `json:"hold,omitempty"`
	Pin        *release.Version `json:"pin,omitempty"`
	// Switch is how a newer version takes its place: parallel, socket or stop-start.
	Switch     string   `json:"switch,omitempty"`
	SwitchText string   `json:"switchText,omitempty"` // why not as the manifest says
	Reasons    []Reason `json:"reasons"`              // why it does not run, could not be started again, or is not updated
	Notes      []string `json:"notes,omitempty"`      // what is known against how it is kept apart, asked of one application
}

// AppGrant is a permission that an application asks for.
type AppGrant struct {
	App        string `json:"app"`
	Permission string `json:"permission"`
	Granted    bool   `json:"granted"`
	By         string `json:"by"` // policy, operator; denied, nobody
}

// AppParked is one generation of an application's data.
type AppParked struct {
	App        string           `json:"app"`
	Generation string           `json:"generation"`
	Live       bool             `json:"live"`
	Kept       bool             `json:"kept,omitempty"` // a deployment that can be gone back to runs on it
	Bytes      int64            `json:"bytes,omitempty"`
	Made       time.Time        `json:"made"`
	Version    *release.Version `json:"version,omitempty"` // that wrote it
	Text       string           `json:"text,omitempty"`    // why it was parked
}
