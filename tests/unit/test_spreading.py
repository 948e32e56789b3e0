"""The kernels that spread Gaussians, against sums over all grid points and against each other."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
import torch

from cryosphere.physics import spreading, spreading_numba, spreading_torch
from cryosphere.physics.fourier import image_to_fourier, resize

F32, F64 = torch.float32, torch.float64


def gaussians(size, count=24, n_images=2, dim=2, dtype=F64):
    """Coordinates in, on the edge of and beyond a grid, heights, and widths each its own."""
    generator = torch.Generator().manual_seed(size)
    coordinates = 0.7 * size * (2 * torch.rand(n_images, count, dim, generator=generator, dtype=F64) - 1)
    heights, widths = 1 + torch.rand(2, count, generator=generator, dtype=F64)
    return coordinates.to(dtype), heights.to(dtype), widths.to(dtype)


def summed(coordinates, heights, widths, *shape):
    """Every Gaussian at every grid point, without a window; ``shape`` along x, y (and z), or of every edge."""
    along = []
    for axis in range(coordinates.shape[-1]):
        size = shape[axis % len(shape)]
        points = torch.arange(size, dtype=coordinates.dtype) - size // 2
        along.append(torch.exp(-0.5 * ((points - coordinates[..., axis, None]) / widths[:, None]) ** 2))
    return torch.einsum("g,bgx,bgy->byx" if len(along) == 2 else "g,bgx,bgy,bgz->bzyx", heights, *along)


def relative_error(found, wanted):
    return float(torch.linalg.norm(found.to(wanted) - wanted) / torch.linalg.norm(wanted))


@pytest.fixture(params=["torch", "numba", "triton"])
def kernel(request, monkeypatch):
    """A kernel's module and its device; Triton's is interpreted where there is no GPU."""
    device = "cpu"
    if request.param == "triton":
        if torch.cuda.is_available():
            device = "cuda"
        else:
            monkeypatch.setenv("TRITON_INTERPRET", "1")
        pytest.importorskip("triton", reason="Triton is not installed (it is not for CPUs)")
    return import_module(f"cryosphere.physics.spreading_{request.param}"), torch.device(device)


@pytest.mark.parametrize("size", [12, 25, 48])
def test_images_are_the_sums_of_their_gaussians(kernel, size):
    module, device = kernel
    model = gaussians(size, dtype=F32)
    found = module.spread(*(part.to(device) for part in model), size, size, 5.0)
    assert relative_error(found.cpu(), summed(*(part.double() for part in model), size)) < 3e-6


@pytest.mark.parametrize("size", [12, 25, 48])
def test_gradients_are_those_of_the_sums(kernel, size):
    module, device = kernel
    model = gaussians(size, dtype=F32)
    slopes = torch.randn(2, size, size, generator=torch.Generator().manual_seed(1))
    exact = [part.double().requires_grad_() for part in model]
    wanted = torch.autograd.grad(summed(*exact, size), exact, slopes.double())
    found = module.gather(slopes.to(device), *(part.to(device) for part in model), 5.0)
    for mine, theirs in zip(found, wanted, strict=True):
        assert relative_error(mine.cpu(), theirs) < 2e-5


@pytest.mark.parametrize(("height", "width"), [(9, 32), (30, 13), (1, 24)])
def test_grids_need_not_be_square(kernel, height, width):
    module, device = kernel
    model = gaussians(25, dtype=F32)
    exact = [part.double().requires_grad_() for part in model]
    image = summed(*exact, width, height)
    found = module.spread(*(part.to(device) for part in model), height, width, 5.0)
    assert found.shape == (2, height, width)
    assert relative_error(found.cpu(), image.detach()) < 3e-6
    slopes = torch.randn(2, height, width, generator=torch.Generator().manual_seed(1))
    wanted = torch.autograd.grad(image, exact, slopes.double())
    for mine, theirs in zip(
        module.gather(slopes.to(device), *(part.to(device) for part in model), 5.0), wanted, strict=True
    ):
        assert relative_error(mine.cpu(), theirs) < 2e-5


@pytest.mark.parametrize("size", [10, 21])
def test_volumes_are_the_sums_of_their_gaussians(kernel, size):
    module, device = kernel
    coordinates, heights, widths = gaussians(size, n_images=1, dim=3, dtype=F32)
    found = module.spread_volume(*(part.to(device) for part in (coordinates[0], heights, widths)), size, 5.0)
    wanted = summed(coordinates.double(), heights.double(), widths.double(), size)[0]
    assert relative_error(found.cpu(), wanted) < 3e-6


@pytest.mark.parametrize("window", [3.0, 5.0])
@pytest.mark.parametrize("size", [5, 31, 64])
def test_compiled_and_plain_torch_cut_gaussians_alike(size, window):
    model = gaussians(size)
    slopes = torch.randn(2, size, size, generator=torch.Generator().manual_seed(1), dtype=F64)
    found = spreading_numba.spread(*model, size, size, window), *spreading_numba.gather(slopes, *model, window)
    wanted = spreading_torch.spread(*model, size, size, window), *spreading_torch.gather(slopes, *model, window)
    for mine, theirs in zip(found, wanted, strict=True):
        assert relative_error(mine, theirs) < 1e-13
    coordinates, *rest = gaussians(size, n_images=1, dim=3)
    found = spreading_numba.spread_volume(coordinates[0], *rest, size, window)
    assert relative_error(found, spreading_torch.spread_volume(coordinates[0], *rest, size, window)) < 1e-13


@pytest.mark.parametrize("size", [31, 64])
def test_single_precision_is_enough(kernel, size):
    module, device = kernel
    model = gaussians(size, dtype=F32)
    slopes = torch.randn(2, size, size, generator=torch.Generator().manual_seed(1))
    single, double = [[part.to(device, dtype) for part in (*model, slopes)] for dtype in (F32, F64)]
    wanted = spreading_torch.spread(*double[:3], size, size, 5.0)
    assert relative_error(module.spread(*single[:3], size, size, 5.0), wanted) < 1e-6
    found, wanted = module.gather(single[3], *single[:3], 5.0), spreading_torch.gather(double[3], *double[:3], 5.0)
    for mine, theirs in zip(found, wanted, strict=True):
        assert relative_error(mine, theirs) < 2e-6


@pytest.mark.parametrize("n_images", [1, 2, 30])
def test_results_do_not_depend_on_the_number_of_threads(n_images):
    model = gaussians(40, n_images=n_images, dtype=F32)
    slopes = torch.randn(n_images, 40, 40, generator=torch.Generator().manual_seed(1))
    n_threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            gradients = spreading_numba.gather(slopes, *model, 5.0)
            volume = spreading_numba.spread_volume(torch.nn.functional.pad(model[0][0], (0, 1)), *model[1:], 40, 5.0)
            results.append((spreading_numba.spread(*model, 40, 40, 5.0), gradients[0], volume))
    finally:
        torch.set_num_threads(n_threads)
    for one, three in zip(*results, strict=True):
        assert torch.equal(one, three)


def test_a_forked_process_has_threads_of_its_own():
    code = """if True:
        import os, torch
        from cryosphere.physics import spreading_numba
        torch.set_num_threads(2)
        arguments = torch.zeros(2, 1, 2), torch.ones(1), torch.ones(1), 16, 16, 5.0
        wanted = spreading_numba.spread(*arguments)
        child = os.fork()
        if child == 0:
            os._exit(0 if (spreading_numba.spread(*arguments).numpy() == wanted.numpy()).all() else 1)
        assert os.waitpid(child, 0)[1] == 0
    """
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=120)


@pytest.mark.parametrize(("size", "box_size"), [(24, 24), (25, 25), (36, 24), (36, 25)])
def test_transforms_are_those_of_the_images(size, box_size):
    model = gaussians(size)
    found = spreading.spread_fourier(*model, size, 5.0, box_size)
    wanted = resize(image_to_fourier(summed(*model, size)), box_size) * (box_size / size) ** 2
    assert relative_error(found, wanted.to(found)) < 3e-6


@pytest.mark.parametrize("middle", [-26.0, -6.0, 0.0, 11.0, 24.0])
@pytest.mark.parametrize(("size", "box_size"), [(48, 48), (49, 49), (48, 32), (48, 33)])
def test_gaussians_on_few_rows(size, box_size, middle):
    coordinates, *rest = gaussians(size)
    model = [torch.stack([coordinates[..., 0], coordinates[..., 1] / 10 + middle], dim=-1), *rest]
    assert spreading._filled_rows(model[0], model[2], size, 5.0)[1] < 0.7 * size
    model = [part.requires_grad_() for part in model]
    found = spreading.spread_fourier(*model, size, 5.0, box_size)
    wanted = resize(image_to_fourier(summed(*model, size)), box_size) * (box_size / size) ** 2
    assert relative_error(found.detach(), wanted.detach().to(found)) < 3e-6
    slopes = torch.randn(*found.shape, 2, generator=torch.Generator().manual_seed(1), dtype=F64)
    slopes = torch.view_as_complex(slopes)
    pairs = zip(torch.autograd.grad(found, model, slopes), torch.autograd.grad(wanted, model, slopes), strict=True)
    for mine, theirs in pairs:
        assert relative_error(mine, theirs) < 2e-5


@pytest.mark.parametrize("y", [1e3, -1e30, float("nan")])
def test_gaussians_beyond_the_grid_are_left_out(y):
    model = [torch.full((1, 3, 2), y), torch.ones(3), torch.ones(3)]
    model[0].requires_grad_()
    fourier = spreading.spread_fourier(*model, 24, 5.0, 16)
    assert not fourier.abs().any()
    fourier.real.sum().backward()
    assert not model[0].grad.any()


@pytest.mark.parametrize(("size", "box_size"), [(12, 12), (13, 13), (12, 8), (12, 9)])
def test_gradient_of_transforms(size, box_size):
    model = [part.requires_grad_() for part in gaussians(size, count=4, n_images=2)]
    assert torch.autograd.gradcheck(lambda *parts: spreading.spread_fourier(*parts, size, 5.0, box_size), model)


def test_images_made_in_turns_are_the_same(monkeypatch):
    model = [part.requires_grad_() for part in gaussians(20, n_images=7)]
    results = []
    for values in (2**20, 900, 100):
        monkeypatch.setattr(spreading, "_VALUES_ON_CPU", values)
        fourier = spreading.spread_fourier(*model, 20, 5.0, 16)
        results.append((fourier, *torch.autograd.grad(fourier.abs().square().sum(), model)))
    for whole, *others in zip(*results, strict=True):
        for turns in others:
            assert torch.allclose(whole, turns, rtol=1e-12, atol=1e-12)


def test_the_kernel_is_the_fastest_that_there_is(monkeypatch):
    assert all(spreading.kernel_for.__wrapped__("cpu", dtype) is spreading_numba for dtype in (F32, F64))
    assert spreading.kernel_for.__wrapped__("cpu", torch.bfloat16) is spreading_torch
    monkeypatch.setitem(sys.modules, "cryosphere.physics.spreading_numba", None)
    assert spreading.kernel_for.__wrapped__("cpu", F32) is spreading_torch


def test_a_kernel_that_cannot_be_compiled_is_passed_over(monkeypatch):
    def no_compiler(*_):
        raise RuntimeError("Failed to find C compiler.")

    monkeypatch.setattr(spreading_numba, "spread", no_compiler)
    assert spreading.kernel_for.__wrapped__("cpu", F32) is spreading_torch


def test_compiled_code_that_cannot_be_kept_is_compiled_all_the_same():
    names = {}
    exec("def successor(number):\n    return number + 1", names)
    assert spreading_numba._compiled(names["successor"])(1) == 2


@pytest.mark.parametrize("width", [float("nan"), float("inf"), -1.0])
def test_widths_that_mean_nothing_leave_the_grid_whole(width):
    coordinates = torch.zeros(1, 2, 2)
    first, height = spreading._filled_rows(coordinates, torch.tensor([width, width]), 24, 5.0)
    assert -12 <= first and 1 <= height and first + height <= 12
