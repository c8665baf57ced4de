// A still of the device's camera; on a phone its own camera app as well.

const find = (id) => document.getElementById(id);
const isTouch = matchMedia("(pointer: coarse)").matches;
let stream = null;
let cameras = [];
let chosen = null; // the id of one that was asked for

export function setUpCamera(addFiles) {
  const hasCamera = Boolean(navigator.mediaDevices?.getUserMedia); // in secure contexts alone
  const [dialog, app] = [find("camera-dialog"), find("camera-app")];
  find("use-camera").hidden = !hasCamera && !isTouch;
  find("open-camera-app").hidden = !isTouch;
  find("use-camera").addEventListener("click", () => {
    if (!hasCamera) return app.click();
    dialog.showModal();
    return start();
  });
  find("open-camera-app").addEventListener("click", () => {
    dialog.close();
    app.click();
  });
  app.addEventListener("change", () => {
    addFiles([...app.files]);
    app.value = "";
  });
  find("other-camera").addEventListener("click", () => {
    const now = stream?.getVideoTracks()[0].getSettings().deviceId;
    chosen = cameras[(cameras.findIndex((camera) => camera.deviceId === now) + 1) % cameras.length].deviceId;
    return start();
  });
  find("close-camera").addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", stop); // Escape too
  find("take").addEventListener("click", async () => {
    const still = await takeStill(find("video"));
    dialog.close();
    addFiles([still]);
  });
}

async function start() {
  stop();
  find("camera-state").textContent = "Starting the camera …";
  const which = chosen ? { deviceId: { exact: chosen } } : { facingMode: "environment" };
  try {
    const opened = await navigator.mediaDevices.getUserMedia({
      video: { ...which, width: { ideal: 1920 }, height: { ideal: 1080 } },
      audio: false,
    });
    if (!find("camera-dialog").open) return opened.getTracks().forEach((track) => track.stop()); // closed meanwhile
    stream = opened;
    find("video").srcObject = stream;
    await find("video").play();
    const devices = await navigator.mediaDevices.enumerateDevices();
    cameras = devices.filter((device) => device.kind === "videoinput");
    find("other-camera").hidden = cameras.length < 2;
    find("camera-state").textContent = "";
    find("take").disabled = false;
    find("take").focus();
  } catch (error) {
    if (find("camera-dialog").open) find("camera-state").textContent = reason(error);
  }
  return undefined;
}

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
  find("video").srcObject = null;
  find("take").disabled = true;
}

async function takeStill(video) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.95));
  const time = new Date().toISOString().slice(0, 19).replaceAll(":", "-");
  return new File([blob], `camera-${time}.jpg`, { type: "image/jpeg" });
}

function reason(error) {
  if (error.name === "NotAllowedError") return "The camera is not allowed on this page: the browser's settings say so.";
  if (error.name === "NotFoundError" || error.name === "OverconstrainedError") return "No camera was found.";
  if (error.name === "NotReadableError") return "The camera is in use by another program.";
  return `The camera does not start: ${error.message}`;
}
