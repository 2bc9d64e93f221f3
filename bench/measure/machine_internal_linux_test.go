package measure

import "testing"

func TestMountOf(t *testing.T) {
	const mounts = `27 1 254:1 / / rw,relatime - ext4 /dev/vda1 rw,errors=remount-ro
22 27 0:21 / /proc rw,relatime - proc proc rw
30 27 254:16 / /data rw,noatime shared:7 - xfs /dev/vdb rw,attr2
31 27 0:40 / /my\040data rw - overlay overlay rw,lowerdir=/lower,upperdir=/upper,index=off
32 27 0:41 / /far rw - nfs4 files:/export rw,vers=4.2,clientaddr=10.0.0.1,addr=10.0.0.2
33 27 0:42 / /twice rw - tmpfs tmpfs rw
34 33 0:43 / /twice ro - tmpfs tmpfs rw,size=64k
a line that is none
`
	for dir, want := range map[string]mount{
		"/":            {"254:1", "ext4", "rw,relatime,errors=remount-ro"},
		"/data":        {"254:16", "xfs", "rw,noatime,attr2"},
		"/data/a/b":    {"254:16", "xfs", "rw,noatime,attr2"},
		"/database":    {"254:1", "ext4", "rw,relatime,errors=remount-ro"},
		"/my data/a":   {"0:40", "overlay", "rw,index=off"},
		"/far/a":       {"0:41", "nfs4", "rw,vers=4.2"},
		"/twice/again": {"0:43", "tmpfs", "ro,rw,size=64k"},
	} {
		if got := mountOf(mounts, dir); got != want {
			t.Errorf("%s: %+v", dir, got)
		}
	}
	if got := mountOf("", "/"); got != (mount{}) {
		t.Error(got)
	}
}
