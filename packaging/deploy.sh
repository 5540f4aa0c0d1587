# What `cargo xtask deploy` runs on the board: the package comes on standard input.
# $1: the machines that the package is for, as `uname -m` names them.
set -eu
say() { echo "deploy: $*" >&2; }
sudo=
[ "$(id -u)" = 0 ] || sudo="sudo -n"
machine=$(uname -m)
case " $1 " in
  *" $machine "*) ;;
  *) say "this machine is $machine; the package is for $1: deploy for another --board"; exit 65 ;;
esac
command -v dpkg >/dev/null || { say "no dpkg here: unpack the .tar.gz by hand, as docs/cross.md says"; exit 69; }
package=$(mktemp /tmp/weir-XXXXXX.deb)
trap 'rm -f "$package"' EXIT
cat > "$package"
chmod 644 "$package"
$sudo true || { say "wants to become root by sudo without a password, or root@HOST"; exit 77; }
say "installing"
$sudo dpkg -i "$package"
say "checking the configuration"
if ! $sudo weir check /etc/weir/gateway.toml; then
  say "installed, and not started: edit /etc/weir/gateway.toml there, then: sudo systemctl start weir"
  exit 78
fi
say "starting, waiting until it is ready"
$sudo systemctl restart weir.service || true
tries=0
until systemctl is-active --quiet weir.service; do
  tries=$((tries + 1))
  if [ "$tries" -ge 60 ]; then
    say "not ready after a minute"
    $sudo journalctl --no-pager --lines 20 --unit weir.service || true
    exit 70
  fi
  sleep 1
done
say "ready"
systemctl --no-pager --lines 5 status weir.service || true
