"""containerd's configuration in the forms in which it is met on nodes.

package         Debian's conffile (version 2; the same on 2.x)
missing         no file: upstream's packages bring none
config default  the whole dump, as many an installation guide says, with the line of releases: version 2, 3, 4
kubeadm         version 2 with a table of runtimes: what nodes bring along when containerd becomes 2.x
version 3       what 2.0's guide says, on a daemon that would write version 4
conf.d          a file that imports a directory, and NVIDIA's drop-in in there
versionless     no version key, which 1.x reads as version 1
"""

from __future__ import annotations

from collections.abc import Mapping

from tests.node.boot import Node

CONFIG = "/etc/containerd/config.toml"

_PACKAGE = """\
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
  [plugins."io.containerd.internal.v1.opt"]
    path = "/var/lib/containerd/opt"
"""

_KUBEADM = """\
# written by our machine set-up
version = 2

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "registry.k8s.io/pause:3.9"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
        SystemdCgroup = false
"""

_VERSION_3 = """\
version = 3
root = "/var/lib/containerd"  # the default, kept here for grep

[plugins.'io.containerd.cri.v1.runtime'.cni]
  bin_dirs = ['/opt/cni/bin', '/usr/lib/cni']

[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = '/etc/containerd/certs.d'
"""

_VERSIONLESS = """\
# from an old image
oom_score = 0

[plugins.cri]
  max_container_log_line_size = 32768
  [plugins.cri.cni]
    bin_dir = "/usr/lib/cni"
"""

_ROOT = """\
imports = ["/etc/containerd/conf.d/*.toml"]
version = {version}
"""

_NVIDIA_1 = """\
version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
      conf_dir = "/etc/cni/net.d"
    [plugins."io.containerd.grpc.v1.cri".containerd]
      default_runtime_name = "runc"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes]
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
          privileged_without_host_devices = false
          runtime_type = "io.containerd.runc.v2"
          [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
            BinaryName = "/usr/bin/nvidia-container-runtime"
        [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
          runtime_type = "io.containerd.runc.v2"
"""
"""nvidia-ctk's drop-in on 1.x holds the whole CRI section, because 1.x replaces a section with the later
one.
"""

_NVIDIA_2 = """\
version = {version}

[plugins]
  [plugins."io.containerd.cri.v1.runtime"]
    [plugins."io.containerd.cri.v1.runtime".containerd]
      [plugins."io.containerd.cri.v1.runtime".containerd.runtimes]
        [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia]
          privileged_without_host_devices = false
          runtime_type = "io.containerd.runc.v2"
          [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia.options]
            BinaryName = "/usr/bin/nvidia-container-runtime"
"""

_VERSIONS = {"1.6": 2, "1.7": 2, "2.1": 3, "2.4": 4}
"""The highest version of the file that each line reads."""


def files(node: Node, line: str, form: str) -> Mapping[str, str]:
    """The files of a form by path; none for "missing". Raises KeyError for another form."""
    version = _VERSIONS[line]
    if form == "config default":
        return {CONFIG: node.run(["containerd", "config", "default"]).stdout}
    if form == "conf.d":
        nvidia = _NVIDIA_1 if version == 2 else _NVIDIA_2.format(version=version)
        return {CONFIG: _ROOT.format(version=version), "/etc/containerd/conf.d/99-nvidia.toml": nvidia}
    alone = {"package": _PACKAGE, "kubeadm": _KUBEADM, "version 3": _VERSION_3, "versionless": _VERSIONLESS}
    return {} if form == "missing" else {CONFIG: alone[form]}


def lay(node: Node, line: str, form: str) -> None:
    """Make /etc/containerd hold this form and nothing else."""
    text = files(node, line, form)
    node.run(["rm", "-rf", "/etc/containerd"])
    for path, content in text.items():
        node.write(path, content)
