package probes

// Levels are the isolation levels, the weakest first.
var Levels = []string{"container", "sandbox", "vm"}

// Abuse is something that an application does to its host or to others, and by level how
// that ends. Another application that runs meanwhile, and the host, notice nothing.
type Abuse struct {
	Name, Does string
	Ends       map[string]string
}

// alike is an abuse that ends in the same way whatever the level.
func alike(name, does, end string) Abuse {
	return Abuse{name, does, map[string]string{"container": end, "sandbox": end, "vm": end}}
}

// Abuses are tried on each level, in this order on one application.
var Abuses = []Abuse{
	alike("log", "writes output without end", "its log keeps the newest, within limits.log"),
	{"tmp", "fills /tmp, /run and /dev/shm", map[string]string{
		"container": "no room: limits.tmp, and half of limits.memory",
		"sandbox":   "no room, or the end of the application at limits.memory",
		"vm":        "no room: limits.tmp, and half of the guest's memory",
	}},
	alike("files", "opens files without end", "no more at limits.files"),
	alike("hang", "has a command for its health that hangs", "the command's end at its timeout"),
	{"fork-for-ever", "has a command for its health that forks for ever", map[string]string{
		"container": "the command's end at its timeout, with all that it started",
		"sandbox":   "at limits.pids gVisor's kernel ends, with all that runs in it, and the application is started again",
		"vm":        "the command's end at its timeout, with all that it started",
	}},
	alike("link", "puts a link into its data that leads to the host's files", "the link leads nowhere"),
	alike("dots", "follows its working directory, its descriptors and the root of process 1 upwards", "nothing of the host's is there"),
	alike("others", "looks for other applications' data and for the agent's", "nothing of it is there"),
	alike("network", "looks for the host, the cloud's address, sockets without a file, and the agent", "it reaches nobody"),
	alike("terminal", "types into the terminal of whoever runs a command in it", "nothing is typed"),
	{"memory", "takes memory without end", map[string]string{
		"container": "the kernel kills it at limits.memory",
		"sandbox":   "the kernel kills it, or gVisor's kernel with it, at limits.memory",
		"vm":        "the guest's kernel kills it",
	}},
	{"disk", "fills its volume", map[string]string{
		"container": "no room at the quota, or its end soon after",
		"sandbox":   "no room at the quota, or its end soon after",
		"vm":        "no room: the volume is a disk of the quota's size",
	}},
	{"processes", "forks without end", map[string]string{
		"container": "forks fail at limits.pids",
		"sandbox":   "forks fail, or gVisor's kernel ends with the application at limits.pids",
		"vm":        "forks fail in the guest at limits.pids",
	}},
	alike("stubborn", "does not end when it is told to", "its end after run.grace"),
	alike("volume-link", "has a volume that is a link", "it is refused"),
	alike("image", "has an image that is not the manifest's", "it is refused"),
	alike("mount-points", "has an image whose mount points are links", "it is refused"),
}
