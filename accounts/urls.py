"""The pages about people: logging in, and the SSH keys of a project."""

from django.contrib.auth.views import LoginView, LogoutView, PasswordChangeView
from django.urls import path

from accounts import views
from accounts.forms import LoginForm, PasswordForm

urlpatterns = [
    path(
        "login/",
        LoginView.as_view(
            template_name="accounts/login.html", authentication_form=LoginForm, redirect_authenticated_user=True
        ),
        name="login",
    ),
    path("logout/", LogoutView.as_view(), name="logout"),
    path(
        "password/",
        PasswordChangeView.as_view(
            template_name="accounts/password.html", form_class=PasswordForm, success_url="/password/changed/"
        ),
        name="password",
    ),
    path("password/changed/", views.password_changed, name="password-changed"),
    path("projects/", views.projects, name="projects"),
    path("projects/<slug:slug>/keys/", views.keys, name="keys"),
    path("projects/<slug:slug>/keys/<int:pk>/delete/", views.key_delete, name="key-delete"),
]
