"""Real Debian nodes for tests: booted with systemd, with real containerd, nydus, registry and Dragonfly
parts.

A node is up in about a second (the first ever takes minutes: roots and programs are built once and kept, see
cache):

    from tests.node import images, parts, scene
    from tests.node.boot import Node

    with Node(snapshotter="0.16.1") as node:            # or "0.13.4" (Debian's), or "none"
        registry = parts.start_registry(node)            # http://127.0.0.1:5000 on the node
        mirror = parts.start_mirror(node)                # a stand-in for dfdaemon, with faults on demand
        images.push(node, "reader-nydus", "127.0.0.1:5000/reader-nydus:1")
        node.run(["ctr", "version"])                     # as root on the node; raises with all output
        mirror.fault("hang", match="blobs/")             # see inside/faults.py for the kinds
        mirror.unit.kill()                               # or freeze(), thaw(), start_again()
        print(node.journal("containerd"))

To look around: `sudo python3 -m tests.node shell [--snapshotter 0.13.4] [--deb FILE] [--dragonfly]`.

boot      Node: start, run, write, read, push, journal, wait_until, connect, reboot, power_cut, install_deb
outside   what is done to a node without a program on it: files read, sockets made
machine   what the machine underneath can do, and what follows for a node
stock     what lies on a node at first: a plain Debian containerd node with the nydus programs in its PATH
keeper    the process that holds a node and takes it away when the test run ends, however it ends
parts     servers on a node: registries, stand-in mirror, fault front, small scheduler and real dfdaemon
images    the images, made once; push into a node's registry
scene     what demo and product tests share: the package installed, containers timed, a container that reads
change    a node without a change of ours, a change held in its middle, a container beside it
detached  a container that reads and outlives containerd's restarts
repack    a package under another version: ours, or one that is installed on the node
others    who holds the mirror's port, and who knocks at it all the time: shows that a fence has no gap
compiled  what py3compile made of our package, made once
dfdaemon  the files of a real dfdaemon
dragonfly a node with a real dfdaemon as its mirror, and load through it
peers     a second dfdaemon on another host, and Dragonfly's own scheduler for both

Under pytest (conftest): a failed test leaves the journals of its nodes in build/node-logs/TEST.log, and a
test fails when units of ours logged a warning or worse that the test has not allowed:
@pytest.mark.allow_warnings("pattern", …).

Nodes need root, /dev/fuse, overlayfs and cgroup v2 (which may be hybrid and without controllers), and the
packages systemd-container, mmdebstrap, iproute2 and nftables. They have no network but a loopback of their
own. The clock is the machine's: only tests/clock steps it (make test-clock).
"""
